"""What a person types: curl, with nothing between it and the gateway."""

from __future__ import annotations

import json
import subprocess

from asking import HELLO, LLAMA, QWEN
from running_cluster import Cluster

BODY = {"model": QWEN, "messages": [HELLO], "temperature": 0}


def curl(*arguments: str, body: object = None) -> str:
    """What curl prints; with a body it posts JSON."""
    posted = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    command = ["curl", "--silent", "--show-error", "--max-time", "60", *posted, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_plain_and_streamed(demo: Cluster) -> None:
    url = f"{demo.base}/v1/chat/completions"
    plain = json.loads(curl(url, body=BODY))["choices"][0]["message"]["content"]
    assert plain
    lines = curl("--no-buffer", url, body={**BODY, "stream": True}).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == plain


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
