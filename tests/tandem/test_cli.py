"""The command line without a cluster: help, errors, how a node is found, how things look."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import rpc
from tandem.cli import connect, main, output
from tandem.cli.application import COMMANDS, make_parser
from tandem.cli.tool_files import read_tools
from tandem.errors import InvalidRequestError, UnavailableError
from tandem.settings import GatewaySettings
from tandem.v1 import membership_pb2, model_pb2, types_pb2
from tandem.version import __version__


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


def ends(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as error:
        assert isinstance(error.code, int)
        return error.code


def test_help_names_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["--help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if not re.search(rf"^    {name} ", text, re.MULTILINE)] == []
    assert "exit codes: 0 done" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_examples_that_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--follow-stdin" not in text
    examples = re.findall(rf"^  (?:echo .* \| )?tandem ({command}\b.*?)(?:  .*| [|>] .*)?$", text, re.MULTILINE)
    assert examples
    for example in examples:
        assert make_parser().parse_args(shlex.split(example)).run


def test_settings_are_flags_of_the_daemons(capsys: pytest.CaptureFixture[str]) -> None:
    ends(["node", "--help"])
    text = capsys.readouterr().out
    for flag in ("--name", "--listen", "--peer", "--cluster", "--no-mdns", "--memory", "--data-dir", "--insecure"):
        assert flag in text
    ends(["gateway", "--help"])
    text = capsys.readouterr().out
    for flag in ("--listen", "--node", "--no-mdns", "--api-key", "--insecure", "[TANDEM_API_KEY]"):
        assert flag in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["statu"], "tandem: argument COMMAND: invalid choice: 'statu'"),
        (["load"], "tandem load: the following arguments are required: MODEL (see tandem load --help)"),
        (["node", "--memory", "lots"], "tandem: --memory: 'lots' is not a size like 12GB or 900MiB"),
        (["node", "--listen", "0.0.0.0:1"], "tandem: listen: 0.0.0.0:1 is beyond this machine"),
        (["gateway", "--listen", "0.0.0.0:1"], "tandem: listen: 0.0.0.0:1 is beyond this machine; --api-key"),
        (["status", "--node", "here"], "tandem: --node: 'here' is not HOST:PORT"),
        (["up", "--nodes", "0"], "tandem up: argument --nodes: '0' is not a number from 1 to 16"),
        (["up", "--port", "70000"], "tandem up: argument --port: '70000' is not a port"),
        (["plan", "m", "--context", "-4"], "tandem plan: argument --context: "),
        (["node", "--bogus", "x"], "tandem node: unrecognized arguments: --bogus x (see tandem node --help)"),
        (["status", "now"], "tandem status: unrecognized arguments: now (see tandem status --help)"),
        (["--bogus", "status"], "tandem: unrecognized arguments: --bogus (see tandem --help)"),
        (["chat", "--seed", "18446744073709551616"], "tandem chat: argument --seed: "),
    ],
)
def test_wrong_use_is_one_line_and_code_2(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(line)


def test_a_wrong_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tandem.toml").write_text("[node]\nmemroy = 1\n")
    assert ends(["status"]) == 2
    assert "'memroy'" in capsys.readouterr().err


def test_without_a_command_it_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends([]) == 2
    assert "tandem up" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(["--version"]) == 0
    assert re.fullmatch(
        rf"tandem {re.escape(__version__)} \(Python 3\.\d+\.\S+, mlx \S+, .*\)\n", capsys.readouterr().out
    )


def test_an_old_python_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    assert ends(["status"]) == 1
    assert capsys.readouterr().err.startswith("tandem: needs Python 3.11 or newer")


def test_ctrl_c_leaves_no_traceback(tmp_path: Path) -> None:
    script = """
import asyncio, os, signal, sys

# A shell starts what runs in its background with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tandem.cli import connect, main

async def find(settings):
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(30)

connect.find = find
sys.exit(main(["status"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    script = "import sys; from tandem.cli import application as a; a.COMMANDS = ('up',); sys.exit(a.run(['up']))"
    patch = "import tandem.cli.up as u; u.run = lambda _: print('x' * 10**6) or 0; "
    command = [sys.executable, "-c", patch + script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.fixture
async def listening() -> AsyncIterator[Callable[[], str]]:
    server = rpc.make_server()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield lambda: address
    await server.stop(None)


async def nobody(cluster: str) -> AsyncGenerator[str, None]:
    await asyncio.Event().wait()
    yield cluster


async def test_a_node_is_found_by_name_on_loopback_then_by_mdns(
    listening: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = listening()
    asked = []

    async def hears(cluster: str) -> AsyncGenerator[str, None]:
        asked.append(cluster)
        yield "127.0.0.1:1"
        yield address

    monkeypatch.setattr(connect, "GUESSED_DEADLINE", 0.5)
    monkeypatch.setattr(connect, "TOLD_DEADLINE", 0.5)
    monkeypatch.setattr(connect, "BROWSE_SECONDS", 5.0)
    monkeypatch.setattr(connect, "DEFAULT_NODE", address)
    told = GatewaySettings(nodes=("127.0.0.1:1", address))
    for settings in (told, GatewaySettings()):
        found = await connect.find(settings, nobody)
        await found.channel.close()
        assert found.address == address
    monkeypatch.setattr(connect, "DEFAULT_NODE", "127.0.0.1:1")
    found = await connect.find(GatewaySettings(cluster="home"), hears)
    await found.channel.close()
    assert (found.address, asked) == (address, ["home"])


async def test_nobody_found_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "GUESSED_DEADLINE", 0.2)
    monkeypatch.setattr(connect, "BROWSE_SECONDS", 0.2)
    monkeypatch.setattr(connect, "DEFAULT_NODE", "127.0.0.1:1")
    with pytest.raises(UnavailableError, match=r"no node found at 127\.0\.0\.1:1 nor by mDNS in cluster 'home'"):
        await connect.find(GatewaySettings(cluster="home"), nobody)
    with pytest.raises(UnavailableError, match=r"no node found at 127\.0\.0\.1:1; "):
        await connect.find(GatewaySettings(mdns=False), nobody)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[]", "no list of tools"),
        ("{", "tools.json: Expecting"),
        ('[{"type": "function", "function": {}}]', "tool 0 has no name"),
        ('[{"name": "a"}, 7]', "tool 1 has no name"),
        ('[{"name": "a", "parameters": []}]', "tool 0: parameters are no JSON schema"),
    ],
)
def test_a_wrong_file_of_tools_is_named(content: str, complaint: str) -> None:
    Path("tools.json").write_text(content)
    with pytest.raises(InvalidRequestError, match=re.escape(complaint)):
        read_tools("tools.json")


def test_tools_come_in_each_wrapping() -> None:
    function = {"name": "a", "description": "does a", "parameters": {"type": "object"}, "strict": True}
    for content in ([function], function, {"tools": [{"type": "function", "function": function}]}):
        Path("tools.json").write_text(json.dumps(content))
        (tool,) = read_tools("tools.json")
        assert (tool.name, tool.description, tool.parameters_json, tool.strict) == (
            "a", "does a", '{"type": "object"}', True,
        )  # fmt: skip


@given(st.integers(min_value=0, max_value=10**18))
def test_sizes_for_people_are_right_to_a_twentieth(number: int) -> None:
    text = output.size(number)
    amount, unit = text.split()
    power = ("B", "KB", "MB", "GB", "TB", "PB").index(unit)
    assert abs(float(amount) * 1000**power - number) <= 0.05 * 1000**power + number * 1e-12
    assert float(amount) < 1000 or unit == "PB"


def test_layers_for_people() -> None:
    segment = types_pb2.Segment
    assert output.layers([segment(end_layer=4), segment(first_layer=8, end_layer=8, epilogue=True)]) == (
        "layers 0-3, output head"
    )
    assert output.layers([segment(first_layer=4, end_layer=5)]) == "layer 4"


def test_the_state_of_a_node_is_said_once() -> None:
    lost = membership_pb2.NODE_STATE_LOST
    reasons = ("", "lost since noon", "no heartbeat for 3 s")
    nodes = [membership_pb2.Node(state=lost, state_reason=reason) for reason in reasons]
    assert {output.node_state(node) for node in nodes} == {"lost"}
    assert [output.node_trouble(node, "mini") for node in nodes] == [
        "",
        "mini is lost since noon",
        "mini is lost: no heartbeat for 3 s",
    ]


def test_the_command_to_copy_runs_where_it_was_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "my bin"
    folder.mkdir()
    (folder / "tandem").write_text("#!/bin/sh\n")
    (folder / "tandem").chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    for program, command in (
        (str(folder / "tandem"), f"'{folder}/tandem'"),
        ("my bin/tandem", "'my bin/tandem'"),
        ("/somewhere/tandem/cli/__main__.py", f"{shlex.quote(sys.executable)} -m tandem.cli"),
    ):
        monkeypatch.setattr(sys, "argv", [program])
        assert output.own_command() == command
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "argv", [str(folder / "tandem")])
    assert output.own_command() == "tandem"


def test_nodes_of_one_name_are_told_apart() -> None:
    nodes = [membership_pb2.Node(node_id=f"{letter * 12}", name=name) for letter, name in ("am", "bm", "cs")]
    names = output.node_names(membership_pb2.Topology(nodes=nodes))
    assert list(names.values()) == ["m(aaaaaaaa)", "m(bbbbbbbb)", "s"]


def test_progress_on_a_terminal_is_redrawn_in_place() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    progress = output.Progress({"a": "mini", "b": "studio"}, terminal)
    loading, ready = model_pb2.LOAD_PHASE_LOADING, model_pb2.LOAD_PHASE_READY
    for node_id, phase, done in (("a", loading, 500), ("b", loading, 0), ("a", ready, 0)):
        progress.update(model_pb2.NodeLoadProgress(node_id=node_id, phase=phase, done_bytes=done, total_bytes=1000))
    frames = terminal.getvalue().split("\x1b[K\n")
    assert [frame.split()[1:] for frame in frames[:-1]] == [
        ["50%", "mini:", "loading", "1.0", "KB"],
        ["50%", "mini:", "loading", "1.0", "KB"],
        ["0%", "studio:", "loading", "1.0", "KB"],
        ["100%", "mini:", "ready", "1.0", "KB"],
        ["0%", "studio:", "loading", "1.0", "KB"],
    ]
    assert [re.findall(r"\x1b\[(\d)A", frame) for frame in frames] == [[], ["1"], [], ["2"], [], []]
