"""Real multicast between machines of their own: network namespaces on a bridge, one node process in each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALIVE, LOST = "NODE_STATE_ALIVE", "NODE_STATE_LOST"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's"),
    pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(sys.platform == "linux" and shutil.which("ip") is None, reason="needs ip (iproute2)"),
]


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


class Bridge:
    """Three machines on one switch. ``with`` tears everything down whatever happened."""

    def __init__(self, *, ipv4: bool) -> None:
        self._ipv4 = ipv4
        tag = f"td{os.getpid() % 100_000}"
        self._hub = f"{tag}h"
        self.machines = [f"{tag}m{number}" for number in (1, 2, 3)]

    def __enter__(self) -> Bridge:
        try:
            ip("netns", "add", self._hub)
            ip("-n", self._hub, "link", "add", "br0", "type", "bridge")
            ip("-n", self._hub, "link", "set", "br0", "up")
            for number, machine in enumerate(self.machines, start=1):
                ip("netns", "add", machine)
                ip("-n", machine, "link", "set", "lo", "up")
                port = self._port(machine)
                ip("link", "add", "eth0", "netns", machine, "type", "veth", "peer", "name", port, "netns", self._hub)
                ip("-n", self._hub, "link", "set", port, "master", "br0")
                ip("-n", self._hub, "link", "set", port, "up")
                if self._ipv4:
                    ip("-n", machine, "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
                ip("-n", machine, "link", "set", "eth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for name in (*self.machines, self._hub):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20, check=False)

    def _port(self, machine: str) -> str:
        return f"p{self.machines.index(machine)}"

    def cut(self, machine: str) -> None:
        """Pulls the cable out of the switch: the machine loses its carrier, and keeps its IPv4 address."""
        ip("-n", self._hub, "link", "set", self._port(machine), "down")

    def mend(self, machine: str) -> None:
        ip("-n", self._hub, "link", "set", self._port(machine), "up")

    def switch_off(self, machine: str) -> None:
        """Takes the machine's own interface down: its IPv6 addresses go."""
        ip("-n", machine, "link", "set", "eth0", "down")

    def switch_on(self, machine: str) -> None:
        ip("-n", machine, "link", "set", "eth0", "up")


class Node:
    """A node process in a namespace; follows what it prints."""

    def __init__(self, name: str, machine: str, data_dir: Path, *, listen: str = "[::]:0") -> None:
        self.name = name
        self.view: dict[str, dict[str, Any]] = {}
        self.fenced: list[str] = []
        self.facts: dict[str, Any] = {}
        self.last_words = ""
        command = [sys.executable, "-m", "tests.cluster.membership_process"]
        self._log = (data_dir.parent / f"{data_dir.name}.log").open("w+")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", machine, *command, "--name", name, "--listen", listen, "--data-dir", str(data_dir)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line)
            if "nodes" in record:
                self.view = {node["name"]: node for node in record["nodes"]}
            elif "fenced" in record:
                self.fenced.append(record["fenced"])
            else:
                self.facts.update(record)

    def states(self) -> dict[str, str]:
        return {name: node["state"] for name, node in self.view.items()}

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.last_words = self.log()
        self._log.close()


def wait(condition: Callable[[], Any], what: str, nodes: list[Node], seconds: float = 30.0) -> float:
    """Seconds until the condition holds; fails with every view and log after too many."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            pytest.fail(f"not within {seconds:g} s: {what}\n{told(nodes)}")
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """The nodes of a test; all of them end with it, before their network does."""
    begun: list[Node] = []
    yield begun
    for node in begun:
        node.end()


def told(nodes: list[Node]) -> str:
    return "\n".join(f"{node.name}: {node.states()}\n{node.log()}" for node in nodes)


def all_met(nodes: list[Node]) -> bool:
    everybody = {node.name: ALIVE for node in nodes}
    return all(node.states() == everybody for node in nodes)


@pytest.fixture(params=["ipv4", "ipv6-only"])
def bridge(request: pytest.FixtureRequest) -> Iterator[Bridge]:
    with Bridge(ipv4=request.param == "ipv4") as built:
        yield built


def test_three_nodes_without_a_peer_meet_and_notice_what_happens(
    bridge: Bridge, nodes: list[Node], tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    one, two = (Node(f"n{number}", bridge.machines[number - 1], tmp_path / f"n{number}") for number in (1, 2))
    nodes += [one, two]
    took = {"two met after": wait(lambda: all_met(nodes), "two meet", nodes)}

    three = Node("n3", bridge.machines[2], tmp_path / "n3")
    nodes.append(three)
    wait(lambda: three.facts, "the third announces itself", nodes)
    took["a new one shown after"] = wait(lambda: "n3" in one.states() and "n3" in two.states(), "n3 shows", nodes)
    wait(lambda: all_met(nodes), "three meet", nodes)

    bridge.cut(bridge.machines[2])
    took["a cut cable noticed after"] = wait(
        lambda: (
            one.states()["n3"] == two.states()["n3"] == LOST and three.states() == {"n1": LOST, "n2": LOST, "n3": ALIVE}
        ),
        "n3 is lost to the others, and they to it",
        nodes,
    )
    assert "lost since" in one.view["n3"]["state_reason"]
    bridge.mend(bridge.machines[2])
    took["back after"] = wait(lambda: all_met(nodes), "n3 is back", nodes)
    assert [len(node.fenced) for node in nodes] == [0, 0, 1], told(nodes)

    two.process.send_signal(signal.SIGSTOP)
    took["a frozen one noticed after"] = wait(
        lambda: one.states()["n2"] == three.states()["n2"] == LOST, "n2 is frozen", nodes
    )
    two.process.send_signal(signal.SIGCONT)
    wait(lambda: all_met(nodes), "n2 is back", nodes)
    assert [len(node.fenced) for node in nodes] == [0, 1, 1], told(nodes)

    bridge.switch_off(bridge.machines[0])
    took["an interface that went noticed after"] = wait(
        lambda: (
            two.states()["n1"] == three.states()["n1"] == LOST and one.states() == {"n1": ALIVE, "n2": LOST, "n3": LOST}
        ),
        "n1 is lost to the others, and they to it",
        nodes,
    )
    bridge.switch_on(bridge.machines[0])
    wait(lambda: all_met(nodes), "n1 is back", nodes)
    assert [len(node.fenced) for node in nodes] == [1, 1, 1], told(nodes)

    three.process.kill()
    took["a killed one noticed after"] = wait(lambda: one.states()["n3"] == two.states()["n3"] == LOST, "kill", nodes)
    two.process.terminate()
    took["a stopped one gone after"] = wait(lambda: "n2" not in one.states(), "n2 is gone", nodes)
    assert two.process.wait(10) == 0
    wait(lambda: two.facts.get("heard_self"), "n2 heard its own announcement", nodes)

    with capsys.disabled():
        print(
            f"\n{request.node.callspec.id}: " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in took.items())
        )
    assert took["a new one shown after"] < 2
    assert took["a cut cable noticed after"] < 5
    assert took["a frozen one noticed after"] < 5
    assert took["an interface that went noticed after"] < 5
    assert took["a killed one noticed after"] < 2
    assert took["a stopped one gone after"] < 2


def test_a_copied_state_directory_is_refused_without_any_peer(nodes: list[Node], tmp_path: Path) -> None:
    with Bridge(ipv4=True) as bridge:
        first = Node("first", bridge.machines[0], tmp_path / "first")
        nodes.append(first)
        wait(lambda: first.facts, "the first is up", nodes)
        shutil.copytree(tmp_path / "first", tmp_path / "copy")
        second = Node("second", bridge.machines[1], tmp_path / "copy")
        nodes.append(second)
        wait(lambda: second.process.poll() is not None, "the second ends", nodes)
        assert second.process.returncode == 1
        assert f"node id {first.facts['node_id']} is in use by node first" in second.log()
        assert "Traceback" not in second.log()
        assert first.process.poll() is None
        assert first.states() == {"first": ALIVE}
