"""What a person types: curl, with nothing between it and the gateway."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from asking import HELLO, LLAMA, PARIS, QWEN, WEATHER
from running_cluster import Cluster

BODY = {"model": QWEN, "messages": [HELLO], "temperature": 0}


def curl(*arguments: str, body: object = None) -> str:
    """What curl prints; with a body it posts JSON."""
    posted = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    command = ["curl", "--silent", "--show-error", "--max-time", "60", *posted, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def streamed(cluster: Cluster, **body: Any) -> list[Any]:
    """The deltas of a stream."""
    printed = curl("--no-buffer", f"{cluster.base}/v1/chat/completions", body={**body, "stream": True})
    lines = printed.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-2]]


def test_plain_and_streamed(demo: Cluster) -> None:
    url = f"{demo.base}/v1/chat/completions"
    plain = json.loads(curl(url, body=BODY))["choices"][0]["message"]["content"]
    assert plain
    deltas = streamed(demo, **BODY)
    assert "".join(delta.get("content", "") for delta in deltas) == plain


def test_a_streamed_call_its_result_and_the_streamed_answer(demo: Cluster) -> None:
    """Two turns, the second with what the first has streamed, put together as a shell script would."""
    asked: dict[str, Any] = {"model": QWEN, "tools": [WEATHER], "temperature": 0, "max_tokens": 256}
    first, *rest = [
        piece for delta in streamed(demo, messages=[PARIS], **asked) for piece in delta.get("tool_calls", [])
    ]
    assert (first["index"], first["type"], first["function"]["name"]) == (0, "function", "get_weather")
    arguments = "".join(piece["function"]["arguments"] for piece in (first, *rest))
    assert json.loads(arguments) == {"city": "Paris"}
    assert len(rest) > 4

    call = {"id": first["id"], "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    history = [
        PARIS,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": first["id"], "content": "21 degrees"},
    ]
    answer = streamed(demo, messages=history, **asked)
    assert "21" in "".join(delta.get("content", "") for delta in answer)
    assert not any("tool_calls" in delta for delta in answer)


def test_headers(demo: Cluster) -> None:
    head, _, body = curl("--include", f"{demo.base}/v1/models").partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK")
    assert "x-request-id: " in head.lower()
    assert [model["id"] for model in json.loads(body)["data"]] == [QWEN, LLAMA]


def test_errors_have_one_shape(demo: Cluster) -> None:
    chat = f"{demo.base}/v1/chat/completions"
    wrong = [
        (400, ["-d", "{nope", chat]),
        (400, ["-d", json.dumps({"model": QWEN}), chat]),
        (404, ["-d", json.dumps({**BODY, "model": "nobody"}), chat]),
        (404, [f"{demo.base}/v1/nowhere"]),
        (405, ["-X", "DELETE", f"{demo.base}/v1/models"]),
    ]
    for status, arguments in wrong:
        body, _, code = curl("--write-out", "\n%{http_code}", *arguments).rpartition("\n")
        assert int(code) == status, body
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_health_and_the_page_for_people(demo: Cluster) -> None:
    assert json.loads(curl("--fail", f"{demo.base}/health"))["status"] == "ok"
    assert "<html" in curl("--fail", demo.base)
