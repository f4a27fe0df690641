"""Real multicast between machines of their own: network namespaces on a bridge, ``tandem node`` in each.

What a node sees is read as a person reads it, by ``tandem status`` in the node's own namespace.
"""

from __future__ import annotations

import json
import os
import re
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
CLUSTER = "machines"
TANDEM = [sys.executable, "-m", "tandem.cli"]
START_SECONDS = 60.0
"""For a daemon or a command to start on a busy machine."""
ALIVE, LOST = "NODE_STATE_ALIVE", "NODE_STATE_LOST"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's"),
    pytest.mark.skipif(sys.platform == "linux" and os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Where they could be made, missing them is a reason to skip on somebody's machine, and a failure in CI."""
    if shutil.which("ip") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs ip (iproute2)")


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


def inside(machine: str, *arguments: str) -> list[str]:
    """The command line that runs ``tandem`` in a namespace."""
    return ["ip", "netns", "exec", machine, *TANDEM, *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Nothing of the settings of whoever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
    return kept | {"XDG_CONFIG_HOME": str(folder), "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}


class Node:
    """``tandem node`` in a namespace, and ``tandem status --watch`` beside it, which says what the node sees."""

    def __init__(self, name: str, machine: str, data_dir: Path) -> None:
        self.name = name
        self.view: dict[str, dict[str, Any]] = {}
        self.node_id = self._address = ""
        self._machine, self._environment = machine, environment(data_dir.parent)
        self._log = (data_dir.parent / f"{data_dir.name}.log").open("w+")
        arguments = ["--name", name, "--cluster", CLUSTER, "--data-dir", str(data_dir), "--memory", "100MB"]
        self.process = self._start("node", *arguments, "--listen", "[::]:0", "--insecure")
        self._status: list[subprocess.Popen[str]] = []
        self._readers = [threading.Thread(target=self._wait_ready, daemon=True)]
        self._readers[0].start()

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            inside(self._machine, *arguments),
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def _wait_ready(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.match(r"ready node=\S+ id=(\S+) listen=\[::\]:(\d+)", line):
                self._address = f"[::1]:{found[2]}"
                self.node_id = found[1]

    @property
    def ready(self) -> bool:
        """Whether it said that it listens."""
        return bool(self.node_id)

    def watch(self) -> None:
        """Follows what the node sees, from the moment that it is ready."""
        self.view = {}
        self._status.append(self._start("status", "--watch", "--json", "--node", self._address))
        self._readers.append(threading.Thread(target=self._read, args=(self._status[-1],), daemon=True))
        self._readers[-1].start()

    def _read(self, status: subprocess.Popen[str]) -> None:
        assert status.stdout is not None
        for line in status.stdout:
            self.view = {node["name"]: node for node in json.loads(line)["nodes"]}

    def status(self, *flags: str) -> dict[str, str]:
        """What ``tandem status --json`` prints in the node's namespace: the state of each node."""
        command = inside(self._machine, "status", "--json", *flags)
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        return {node["name"]: node["state"] for node in json.loads(done.stdout)["nodes"]}

    def states(self) -> dict[str, str]:
        return {name: node["state"] for name, node in self.view.items()}

    @property
    def fenced(self) -> int:
        """How often it learnt that the others had given it up."""
        return self.log().count(" fenced: ")

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        for process in (*self._status, self.process):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        for reader in self._readers:
            reader.join(10)
        for process in (*self._status, self.process):
            assert process.stdout is not None
            process.stdout.close()
        self._log.close()


def wait(condition: Callable[[], Any], what: str, nodes: list[Node], seconds: float = START_SECONDS) -> float:
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
    wait(lambda: one.ready and two.ready, "two are ready", nodes)
    for node in nodes:
        node.watch()
    wait(lambda: all_met(nodes), "two meet", nodes)

    three = Node("n3", bridge.machines[2], tmp_path / "n3")
    nodes.append(three)
    wait(lambda: three.ready, "the third announces itself", nodes)
    took = {"a new one shown": wait(lambda: "n3" in one.states() and "n3" in two.states(), "n3 shows", nodes)}
    three.watch()
    wait(lambda: all_met(nodes), "three meet", nodes)
    # Without being told of any node: none listens on the usual port, so mDNS finds one here, too.
    assert three.status("--cluster", CLUSTER) == dict.fromkeys(("n1", "n2", "n3"), ALIVE)

    bridge.cut(bridge.machines[2])
    took["a cut cable noticed"] = wait(
        lambda: (
            one.states()["n3"] == two.states()["n3"] == LOST and three.states() == {"n1": LOST, "n2": LOST, "n3": ALIVE}
        ),
        "n3 is lost to the others, and they to it",
        nodes,
    )
    assert "lost since" in one.view["n3"]["state_reason"]
    assert one.status("--cluster", CLUSTER)["n3"] == LOST
    bridge.mend(bridge.machines[2])
    took["back"] = wait(lambda: all_met(nodes), "n3 is back", nodes)
    assert [node.fenced for node in nodes] == [0, 0, 1], told(nodes)

    two.process.send_signal(signal.SIGSTOP)
    took["a frozen one noticed"] = wait(
        lambda: one.states()["n2"] == three.states()["n2"] == LOST, "n2 is frozen", nodes
    )
    two.process.send_signal(signal.SIGCONT)
    two.watch()  # the one before lost its node as everybody did
    wait(lambda: all_met(nodes), "n2 is back", nodes)
    assert [node.fenced for node in nodes] == [0, 1, 1], told(nodes)

    bridge.switch_off(bridge.machines[0])
    took["an interface that went noticed"] = wait(
        lambda: (
            two.states()["n1"] == three.states()["n1"] == LOST and one.states() == {"n1": ALIVE, "n2": LOST, "n3": LOST}
        ),
        "n1 is lost to the others, and they to it",
        nodes,
    )
    bridge.switch_on(bridge.machines[0])
    wait(lambda: all_met(nodes), "n1 is back", nodes)
    assert [node.fenced for node in nodes] == [1, 1, 1], told(nodes)

    three.process.kill()
    took["a killed one noticed"] = wait(lambda: one.states()["n3"] == two.states()["n3"] == LOST, "kill", nodes)
    two.process.terminate()
    took["a stopped one gone"] = wait(lambda: "n2" not in one.states(), "n2 is gone", nodes)
    assert two.process.wait(10) == 0

    with capsys.disabled():
        print(
            f"\n{request.node.callspec.id}: "
            + ", ".join(f"{what} after {seconds:.2f} s" for what, seconds in took.items())
        )
    assert took["a new one shown"] < 2
    assert took["a cut cable noticed"] < 5
    assert took["a frozen one noticed"] < 5
    assert took["an interface that went noticed"] < 5
    assert took["a killed one noticed"] < 2
    assert took["a stopped one gone"] < 2


def test_a_copied_state_directory_is_refused_without_any_peer(nodes: list[Node], tmp_path: Path) -> None:
    with Bridge(ipv4=True) as bridge:
        first = Node("first", bridge.machines[0], tmp_path / "first")
        nodes.append(first)
        wait(lambda: first.ready, "the first is up", nodes)
        first.watch()
        shutil.copytree(tmp_path / "first", tmp_path / "copy")
        second = Node("second", bridge.machines[1], tmp_path / "copy")
        nodes.append(second)
        wait(lambda: second.process.poll() is not None, "the second ends", nodes)
        assert second.process.returncode == 1
        assert f"node id {first.node_id} is in use by node first" in second.log()
        assert "Traceback" not in second.log()
        assert first.process.poll() is None
        assert first.status("--cluster", CLUSTER) == {"first": ALIVE}
