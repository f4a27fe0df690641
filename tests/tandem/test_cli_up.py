"""``tandem up`` with stand-ins for its daemons: what it says, whom it starts, and that nobody is left."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tandem.cli.application import make_parser

DAEMONS = Path(__file__).with_name("scripted_daemons.py")


class Up:
    """One running ``tandem up``, and every process that it ever started."""

    def __init__(self, folder: Path, script: str, *arguments: str) -> None:
        (folder / "met").mkdir(exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
        environment |= {
            "SCRIPT": script,
            "SCRIPT_FOLDER": str(folder / "met"),
            "TMPDIR": str(folder),
            "XDG_CONFIG_HOME": str(folder),
        }
        self.folder = folder
        with (folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(DAEMONS), "up", "--port", "0", *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self.daemons: list[psutil.Process] = []

    def wait_until_up(self) -> str:
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        self.daemons = psutil.Process(self.process.pid).children(recursive=True)
        return "".join(lines)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)

    def said(self) -> str:
        return (self.folder / "stderr").read_text()

    def nothing_is_left(self) -> bool:
        psutil.wait_procs(self.daemons, timeout=10)
        running = [daemon for daemon in self.daemons if daemon.is_running()]
        return not running and not list(self.folder.glob("tandem-up-*"))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(script: str = "", *arguments: str) -> Up:
        started.append(Up(tmp_path, script, *arguments))
        return started[-1]

    yield start
    for run in started:
        run.process.kill()
        run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()


def test_it_says_what_is_up_and_ends_without_a_trace(up: Callable[..., Up]) -> None:
    run = up()
    text = run.wait_until_up()
    assert re.search(r"tandem-demo serves as demo-a\n", text)
    assert re.search(r"^status   .*tandem\.cli status( --node 127\.0\.0\.1:\d+)?$", text, re.M)
    assert re.search(r"node-1 +127\.0\.0\.1:\d+ +layer 0\nnode-2 +127\.0\.0\.1:\d+ +layer 1\n", text)
    (port,) = re.findall(
        r"^curl -s http://127\.0\.0\.1:(\d+)/v1/chat/completions .*\"demo-a\".*get_weather", text, re.M
    )
    assert int(port) > 0
    assert len(run.daemons) == 3
    assert run.end() == 0
    assert run.nothing_is_left()
    assert "found each other by mDNS" in run.said()
    assert "Traceback" not in run.said()


def test_commands_find_the_first_node_by_themselves_unless_its_usual_port_is_taken(up: Callable[..., Up]) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 52415))
        except OSError:
            free = False
        else:
            free = True
            probe.listen()
        run = up("", "--nodes", "1")
        text = run.wait_until_up()
        (address,) = re.findall(r"^node-1 +(\S+) ", text, re.M)
        assert f"status --node {address}" in text
        assert run.end() == 0
    if free:
        again = up("", "--nodes", "1")
        text = again.wait_until_up()
        assert re.search(r"^node-1 +127\.0\.0\.1:52415 ", text, re.M)
        assert re.search(r"^status .* status$", text, re.M)


def test_where_mdns_is_not_heard_static_peers_do(up: Callable[..., Up]) -> None:
    run = up("deaf", "--nodes", "3")
    assert len(re.findall(r"^node-\d .*layer \d$", run.wait_until_up(), re.M)) == 3
    assert "mDNS was not heard in 5 s (no multicast here?); going on with static peers" in run.said()
    assert run.end(signal.SIGTERM) == 0
    assert run.nothing_is_left()


def test_without_mdns_nobody_waits_for_it(up: Callable[..., Up]) -> None:
    run = up("deaf", "--no-mdns")
    run.wait_until_up()
    assert "mDNS" not in run.said()


def test_a_model_that_cannot_be_cut_goes_whole_to_one_node(up: Callable[..., Up]) -> None:
    run = up("uncuttable")
    assert re.search(r"^node-2 .* nothing$", run.wait_until_up(), re.M)
    assert "architecture 'odd' runs whole on one node; it goes whole to one node" in run.said()


def test_a_missing_model_is_one_line(up: Callable[..., Up]) -> None:
    run = up("missing", "--model", "nowhere")
    assert run.process.wait(60) == 1
    assert run.said().splitlines()[-1] == "tandem: no model is called 'nowhere'"
    assert run.nothing_is_left()


def test_a_daemon_that_dies_at_the_start_is_told_with_its_last_lines(up: Callable[..., Up]) -> None:
    run = up("crash")
    assert run.process.wait(60) == 1
    assert run.said().splitlines()[-4:] == [
        "node-2 | node starts",
        "node-2 | a last word",
        "node-2 | and the reason",
        "tandem: node-2 ended with 7; the last lines of its log are above",
    ]
    assert run.nothing_is_left()


def test_a_daemon_that_dies_later_is_told_and_the_others_go_on(up: Callable[..., Up]) -> None:
    run = up()
    text = run.wait_until_up()
    victims = [daemon for daemon in run.daemons if "--name=node-2" in daemon.cmdline()]
    victims[0].kill()
    deadline = time.monotonic() + 30
    while "the others go on" not in run.said() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "node-2 | node starts\ntandem: node-2 was killed by SIGKILL; " in run.said()
    (again,) = re.findall(r"^\S.* node --name=node-2 .*$", run.said(), re.M)
    addresses = dict(re.findall(r"^(node-\d) +(\S+) ", text, re.M))
    assert f"--listen={addresses['node-2']} --peer={addresses['node-1']}" in again
    program, *flags = shlex.split(again)
    assert Path(program).exists()
    assert make_parser().parse_args(flags[flags.index("node") :]).run
    assert run.process.poll() is None
    assert sum(daemon.is_running() for daemon in run.daemons if daemon not in victims) == 2
    assert run.end() == 0


def test_without_its_gateway_it_ends(up: Callable[..., Up]) -> None:
    run = up()
    run.wait_until_up()
    next(daemon for daemon in run.daemons if "gateway" in daemon.cmdline()).kill()
    assert run.process.wait(30) == 1
    assert run.said().splitlines()[-1] == "tandem: without the gateway nobody can be answered: everything ends"
    assert run.nothing_is_left()


def test_without_any_node_it_ends(up: Callable[..., Up]) -> None:
    run = up("", "--nodes", "1")
    run.wait_until_up()
    next(daemon for daemon in run.daemons if "node" in daemon.cmdline()).kill()
    assert run.process.wait(30) == 1
    assert run.said().splitlines()[-1] == "tandem: no node is left: everything ends"
    assert run.nothing_is_left()


def test_daemons_that_do_not_listen_to_reason_are_killed(up: Callable[..., Up]) -> None:
    run = up("stubborn", "--nodes", "1")
    run.wait_until_up()
    assert run.end() == 0
    assert run.nothing_is_left()


def test_daemons_do_not_outlive_their_parent(up: Callable[..., Up]) -> None:
    run = up()
    run.wait_until_up()
    run.process.kill()
    _, alive = psutil.wait_procs(run.daemons, timeout=20)
    assert alive == []


def test_it_ends_while_it_starts(up: Callable[..., Up]) -> None:
    run = up()
    deadline = time.monotonic() + 30
    while "starting" not in run.said() and time.monotonic() < deadline:
        time.sleep(0.02)
    run.daemons = psutil.Process(run.process.pid).children(recursive=True)
    assert run.end() == 0
    assert run.nothing_is_left()
    assert "Traceback" not in run.said()


def test_a_port_in_use_is_one_line(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = up("", "--port", str(port))
        assert run.process.wait(30) == 1
    assert re.fullmatch(rf"tandem: port {port} is in use; take another one: .*make run PORT=\d+`\n", run.said())
