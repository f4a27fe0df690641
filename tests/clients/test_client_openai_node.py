"""OpenAI's client for Node against two nodes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from asking import LLAMA, QWEN, wait_until_free
from client_environments import npm_folder
from running_cluster import Cluster

PROGRAM = Path(__file__).with_name("openai_node.mjs")


@pytest.fixture(scope="module")
def steps(demo: Cluster) -> dict[str, Any]:
    """What each step of the program gave."""
    folder = npm_folder("openai", "6.49.0")
    command = ["node", "--input-type=module", "-", f"{demo.base}/v1"]
    done = subprocess.run(
        command, input=PROGRAM.read_text(), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["step"]: line.get("value") or line for line in lines}


def arguments(message: Any) -> list[Any]:
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in message["tool_calls"]]


def test_models(steps: dict[str, Any]) -> None:
    assert steps["models"] == [QWEN, LLAMA]


def test_plain_and_streamed(steps: dict[str, Any]) -> None:
    assert steps["plain"]["finish_reason"] == "stop"
    assert steps["streamed"]["text"] == steps["plain"]["message"]["content"] != ""
    assert steps["streamed"]["usage"]["completion_tokens"] > 1


def test_tools(steps: dict[str, Any]) -> None:
    assert steps["tools"]["finish_reason"] == "tool_calls"
    assert arguments(steps["tools"]["message"]) == [("get_weather", {"city": "Paris"})]
    assert arguments(steps["tools_streamed"]) == [("get_weather", {"city": "Paris"})]


def test_two_turns(steps: dict[str, Any]) -> None:
    assert steps["two_turns"]["ran"] == [{"city": "Paris"}]
    assert "21" in steps["two_turns"]["answer"]


def test_several_choices(steps: dict[str, Any]) -> None:
    assert [choice["index"] for choice in steps["choices"]] == [0, 1]
    assert all(choice["logprobs"]["content"] for choice in steps["choices"])


def test_errors(steps: dict[str, Any]) -> None:
    unknown, bad = steps["unknown_model"]["error"], steps["bad_request"]["error"]
    assert (unknown["kind"], unknown["status"], unknown["code"]) == ("NotFoundError", 404, "model_not_found")
    assert (bad["kind"], bad["status"], bad["param"]) == ("BadRequestError", 400, "temperature")


def test_leaving_a_stream_frees_the_sequence(steps: dict[str, Any], demo: Cluster) -> None:
    assert steps["aborted"] is True
    wait_until_free(demo)
