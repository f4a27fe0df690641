"""Every call of ``docs/debugging.md``, run against two nodes by a client that shares no code with the servers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from client_environments import install_with, made_once
from running_cluster import ROOT, Cluster

PAGE = ROOT / "docs" / "debugging.md"
NODE = "127.0.0.1:52415"
"""The node that the page speaks of."""
VERSION = "1.75.0"
"""Of buf, as in .ci/run."""
BUF = ["curl", "--protocol", "grpc", "--http2-prior-knowledge"]
CONSTANT = re.compile(r"[A-Z][A-Z_]+|tandem-demo.*|get_weather|hermes|llama3_json|\{.*\}")
"""Texts that do not depend on the run: enums, names, complete arguments."""


def calls() -> list[tuple[str, str]]:
    """The commands of the page and what it shows of their output."""
    return re.findall(r"^```sh\n(grpcurl [^\n]*)\n```\n\n```\w*\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)


@cache
def buf() -> str:
    """The program: where the checks of CI put it, or on the path, or installed into the cache of the tests' clients."""
    bins = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem" / "node_modules" / ".bin"
    if found := shutil.which("buf", path=f"{bins}{os.pathsep}{os.environ.get('PATH', '')}"):
        return found
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs buf, or node and npm to install it")

    def install(folder: Path) -> None:
        (folder / "package.json").write_text("{}")
        install_with(npm, "install", "--no-audit", "--no-fund", f"@bufbuild/buf@{VERSION}", cwd=folder)

    return str(made_once(f"npm-buf-{VERSION}", install) / "node_modules" / ".bin" / "buf")


def run(command: str, address: str) -> str:
    """What ``buf curl`` prints for a call of grpcurl to a node."""
    program, plaintext, *words = shlex.split(command)
    assert (program, plaintext) == ("grpcurl", "-plaintext")
    data = [words.pop(0), words.pop(0)] if words[0] == "-d" else []
    assert words.pop(0) == NODE
    arguments: list[str]
    match words:
        case ["list"]:
            arguments = [f"http://{address}", "--list-services"]
        case ["list", _]:
            arguments = [f"http://{address}", "--list-methods"]
        case [method]:
            arguments = [*data, f"http://{address}/{method}"]
        case _:
            raise AssertionError(command)
    done = subprocess.run([buf(), *BUF, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    if len(words) == 2:
        return "".join(f"{name.replace('/', '.')}\n" for name in done.stdout.split() if name.startswith(f"{words[1]}/"))
    return done.stdout


def documents(text: str) -> list[Any]:
    """The JSON values in a text, one after the other; what is marked as left out is left out."""
    text = re.sub(r"^\s*…,?\n", "", text, flags=re.M)
    text = re.sub(r",(\s*[\]}])", r"\1", text).strip()
    found, decoder = [], json.JSONDecoder()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


def like(shown: Any, real: Any) -> bool:
    """Whether an output has everything that the page shows: keys, kinds of values, and whatever is constant."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(key in real and like(shown[key], real[key]) for key in shown)
    if isinstance(shown, list):
        rest = iter(real) if isinstance(real, list) else iter(())
        return all(any(like(each, other) for other in rest) for each in shown)
    if isinstance(shown, str):
        if CONSTANT.fullmatch(shown):
            return bool(shown == real)
        return isinstance(real, str) and shown.isdigit() == real.isdigit()
    return type(shown) is type(real) or (isinstance(shown, int | float) and isinstance(real, int | float))


@pytest.fixture(scope="module")
def generated(demo: Cluster) -> str:
    """What the page's generation prints; afterwards the node has figures to show."""
    command = next(command for command, _ in calls() if command.endswith("/Generate"))
    return run(command, demo.nodes[0].address)


def test_the_page_shows_calls() -> None:
    methods = {command.split()[-1] for command, _ in calls()}
    assert {"list", "grpc.health.v1.Health/Check", "tandem.v1.GenerationService/Generate"} <= methods
    for service in ("MembershipService/GetTopology", "ShardService/ListShards", "ModelService/ListModels"):
        assert f"tandem.v1.{service}" in methods


@pytest.mark.parametrize(("command", "shown"), calls(), ids=[command.split()[-1] for command, _ in calls()])
def test_a_call_prints_what_the_page_shows(demo: Cluster, generated: str, command: str, shown: str) -> None:
    printed = run(command, demo.nodes[0].address)
    if "{" in shown:
        assert like(documents(shown), documents(printed)), printed
    else:
        assert printed == shown


def test_the_events_are_numbered_and_make_one_call(generated: str) -> None:
    messages = documents(generated)
    events = [event for message in messages for event in message["events"]]
    assert [int(event.get("sequence", 0)) for event in events] == list(range(len(events)))
    assert len(messages) > 4
    arguments = "".join(event.get("toolCallArguments", {}).get("argumentsDelta", "") for event in events)
    (call,) = [event["toolCallEnd"]["toolCall"] for event in events if "toolCallEnd" in event]
    assert json.loads(arguments) == json.loads(call["argumentsJson"]) == {"city": "Paris"}
    assert sum(len(event.get("tokenIds", ())) for event in events) == events[-1]["finished"]["completionTokens"]


@pytest.mark.parametrize(
    ("shown", "real", "same"),
    [
        ({"a": 1}, {"a": 2, "b": 3}, True),
        ({"a": 1}, {"b": 3}, False),
        ({"state": "NODE_STATE_ALIVE"}, {"state": "NODE_STATE_LOST"}, False),
        ({"epoch": "2"}, {"epoch": "17"}, True),
        ({"epoch": "2"}, {"epoch": "two"}, False),
        ([{"a": 1}, {"b": 1}], [{"a": 5}, {"c": 5}, {"b": 5}], True),
        ([{"b": 1}, {"a": 1}], [{"a": 5}, {"b": 5}], False),
        ([1], [], False),
    ],
)
def test_what_counts_as_like(shown: Any, real: Any, same: bool) -> None:
    assert like(shown, real) is same
