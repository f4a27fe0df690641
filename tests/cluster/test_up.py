"""``make run`` as a person has it: real nodes, the embedded model, the printed request copied and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


def snapshot() -> str:
    """What version control would call changed in the tree."""
    return subprocess.run(
        ["git", "status", "--porcelain", "--ignored=no"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


class Run:
    """A running ``tandem up`` that has said what is up."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self.errors = errors
        lines = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        self.text = "".join(lines)
        assert "Ctrl-C" in self.text, f"{self.text}{errors.read_text()}"
        self.daemons = psutil.Process(process.pid).children(recursive=True)

    def holders(self) -> dict[str, str]:
        """What each node holds, as printed."""
        return dict(re.findall(r"^(node-\d+) +\S+ +(\S.*)$", self.text, re.MULTILINE))

    def curl(self) -> str:
        """The printed request."""
        (line,) = re.findall(r"^curl .*$", self.text, re.MULTILINE)
        return str(line)

    def command(self, *arguments: str) -> str:
        """What a command says of this cluster, called as the printed one is."""
        ((tandem, node),) = re.findall(r"^status +(.*) status((?: --node \S+)?)$", self.text, re.MULTILINE)
        command = [*shlex.split(tandem), *arguments, *node.split()]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT, env=environment
        ).stdout


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Run]:
    """Runs the command as a shell does, in a process group of its own, and ends it whatever happens."""
    folder.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
    environment |= {"TMPDIR": str(folder), "XDG_CONFIG_HOME": str(folder)}
    errors = folder / "stderr"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tandem.cli", "up", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield Run(process, errors)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


Start = Callable[..., Run]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda name, *arguments: stack.enter_context(running(tmp_path / name, *arguments))


def ask(curl: str) -> dict[str, object]:
    """Runs a copied line in a shell."""
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=120)
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_printed_request_makes_a_tool_call_and_ctrl_c_ends_everything(up: Start, tmp_path: Path) -> None:
    before = snapshot()
    run = up("one")
    holders = run.holders()
    assert list(holders) == ["node-1", "node-2"]
    assert all("layer" in held for held in holders.values())
    assert "output head" in holders["node-1"]

    choice = ask(run.curl())["choices"][0]  # type: ignore[index]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}

    topology = json.loads(run.command("status", "--json"))
    assert {node["state"] for node in topology["nodes"]} == {"NODE_STATE_ALIVE"}
    assert "tandem-demo-qwen" in run.command("models")
    assert run.command("chat", "tandem-demo-qwen", "-m", "Hello!", "--max-tokens", "8").strip()

    # As a terminal does it: the signal goes to the whole group.
    started = time.monotonic()
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.process.wait(10) == 0
    _, alive = psutil.wait_procs(run.daemons, timeout=1)
    assert alive == []
    assert time.monotonic() - started < 5
    assert "Traceback" not in run.errors.read_text()
    assert list(tmp_path.glob("*/tandem-up-*")) == []
    assert snapshot() == before


def test_two_clusters_on_one_machine_never_merge(up: Start) -> None:
    runs = [up("one", "--nodes", "1"), up("two", "--nodes", "1")]
    time.sleep(3)
    for run in runs:
        assert len(json.loads(run.command("status", "--json"))["nodes"]) == 1
    (choice,) = ask(runs[1].curl())["choices"]  # type: ignore[misc]
    assert choice["finish_reason"] == "tool_calls"


def test_three_nodes_without_multicast(up: Start) -> None:
    run = up("one", "--nodes", "3", "--no-mdns")
    assert len(run.holders()) == 3
    assert ask(run.curl())["choices"]


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tandem.cli", "up", "--port", "0", "--nodes", "1", "--model", "./nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tandem: ")
    assert "nowhere" in last
    assert "Traceback" not in done.stderr


def test_a_node_that_dies_is_told_with_its_last_lines(up: Start) -> None:
    run = up("one")
    next(daemon for daemon in run.daemons if "--name=node-2" in daemon.cmdline()).kill()
    deadline = time.monotonic() + 30
    while "the others go on" not in run.errors.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "tandem: node-2 was killed by SIGKILL" in run.errors.read_text()
    assert run.process.poll() is None
