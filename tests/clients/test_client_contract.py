"""Judges from outside: checks that others wrote of what a client of OpenAI's API may rely on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from asking import QWEN
from client_environments import shared_client
from running_cluster import Cluster
from scripted_nodes import ScriptedCluster, call

SAID_BY_ANYBODY = [
    *("models", "headers", "chat_plain", "chat_parts_and_developer", "stream_plain_usage"),
    *("stream_no_usage_unless_asked", "tool_none", "tool_no_parallel", "n_seed_stop_logprobs", "completions_legacy"),
    *("err_unknown_model", "err_bad_request", "err_unknown_field_ok", "utf8_split"),
    *("tool_required", "tool_named"),
]
"""Checks that pass whatever the model says; those of the last line because a grammar guides it."""
SAID_BY_SCRIPT = [
    *("tool_auto", "tool_loop", "tool_stream", "tool_no_parallel", "sdk_stream_helper", "utf8_split"),
    *("tool_allowed", "parse_json_schema", "json_object"),
]
"""Checks in which the model must do as it is told."""
PROBES = [
    "models",
    *(f"chat {stream}{what}" for what in ("plain", "tools", "required", "logprobs") for stream in ("", "stream ")),
    *(f"error {what}" for what in ("bad json", "unknown model", "no messages", "bad type", "unknown path")),
    *("error wrong method", "error stream error before first byte", "completions"),
]


def run(python: Path, program: str, *arguments: str) -> str:
    """What the program prints; its exit code counts checks that are not asked here."""
    command = [str(python), str(shared_client(program)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout


def sdk(python: Path, cluster: Cluster, checks: list[str]) -> None:
    printed = run(python, "sdk_openai.py", f"{cluster.base}/v1", QWEN, ",".join(checks))
    assert re.findall(r"^PASS (\S+)", printed, re.MULTILINE) == sorted(checks, key=printed.find), printed
    assert len(printed.splitlines()) == len(checks), printed


def test_checks_that_any_model_passes(demo: Cluster, client_python: Path) -> None:
    sdk(client_python, demo, SAID_BY_ANYBODY)


def test_checks_that_need_an_able_model(scripted: ScriptedCluster, client_python: Path) -> None:
    paris = call("get_weather", city="Paris", unit="c")
    cities = "\n".join(call("get_weather", city=city, unit="c") for city in ("Paris", "Rome", "Oslo"))
    scripted.say(
        ("weather in Paris", paris),
        ("21 degrees, sunny", "It is sunny in Paris, at 21 degrees."),
        ("Paris, Rome and Oslo", cities),
        ("Repeat exactly", "你好 🙂 žluťoučký"),
        ("JSON object with key a", '{"a": 1}'),
        ("two million people", '{"name": "Paris", "population": 2000000}'),
    )
    sdk(client_python, scripted, SAID_BY_SCRIPT)


def test_bodies_chunks_and_errors_obey_the_published_schemas(scripted: ScriptedCluster, client_python: Path) -> None:
    """The probes with tools see a text before two calls."""
    scripted.say((["# Tools", "weather in Paris"], "Looking.\n" + "\n".join([call("get_weather", city="Paris")] * 2)))
    description = shared_client("openapi-min.json")
    printed = run(client_python, "validate_openapi.py", str(description), f"{scripted.base}/v1", QWEN)
    results = dict(re.findall(r"^(?:PASS|FAIL) (.+?)(?:  (.*))?$", printed, re.MULTILINE))
    assert {probe: results.get(probe, "was not run") for probe in PROBES} == dict.fromkeys(PROBES, ""), printed
