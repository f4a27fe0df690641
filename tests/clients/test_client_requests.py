"""Plain HTTP by hand, as agents without an SDK do it: requests, and a reader of server-sent events of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import requests
from asking import HELLO, PARIS, QWEN, WEATHER
from running_cluster import Cluster


def post(cluster: Cluster, stream: bool = False, **body: Any) -> requests.Response:
    """What is asked for in the body decides, not what some SDKs say in the header, streams or not."""
    body = {"model": QWEN, "temperature": 0, "max_tokens": 256, "stream": stream, **body}
    url, headers = f"{cluster.base}/v1/chat/completions", {"Accept": "application/json"}
    return requests.post(url, json=body, headers=headers, stream=stream, timeout=60)


def events(response: requests.Response) -> Iterator[Any]:
    """The chunks of a stream, which must end with the word for it."""
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/event-stream")
    lines = [line for line in response.iter_lines(decode_unicode=True) if line]
    assert lines.pop() == "data: [DONE]"
    for line in lines:
        assert line.startswith("data: ")
        yield json.loads(line.removeprefix("data: "))


def test_call_result_answer_streamed(demo: Cluster) -> None:
    """Two turns in which the history is sent as it was put together from the stream."""
    with post(demo, stream=True, messages=[PARIS], tools=[WEATHER]) as response:
        chunks = list(events(response))
    pieces = [piece for chunk in chunks for piece in chunk["choices"][0]["delta"].get("tool_calls", [])]
    first, *rest = pieces
    assert all(set(piece) == {"index", "function"} and set(piece["function"]) == {"arguments"} for piece in rest)
    arguments = "".join(piece["function"]["arguments"] for piece in pieces)
    assert json.loads(arguments) == {"city": "Paris"}
    function = {"name": first["function"]["name"], "arguments": arguments}
    calls = [{"id": first["id"], "type": first["type"], "function": function}]

    history = [
        PARIS,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": first["id"], "content": [{"type": "text", "text": "21 degrees"}]},
    ]
    with post(demo, stream=True, messages=history, tools=[WEATHER]) as response:
        answer = list(events(response))
    assert "21" in "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in answer)
    assert [chunk["choices"][0]["finish_reason"] for chunk in answer][-2:] == [None, "stop"]


def test_a_bad_request_says_what_is_wrong_and_the_next_one_works(demo: Cluster) -> None:
    wrong: list[dict[str, Any]] = [
        {"messages": []},
        {"messages": "Hello!"},
        {"messages": [{"role": "nobody", "content": "Hello!"}]},
        {"messages": [PARIS], "n": 0},
        {"messages": [PARIS], "stop": 7},
        {"messages": [PARIS], "top_logprobs": 3},
        {"messages": [PARIS], "tools": [{"type": "function", "function": {"name": "no blanks"}}]},
    ]
    for body in wrong:
        for stream in (False, True):
            with post(demo, stream=stream, **body) as response:
                assert response.status_code == 400, body
                error = response.json()["error"]
            assert error["type"] == "invalid_request_error"
            assert error["message"]
            assert error["param"]
    with post(demo, messages=[HELLO]) as response:
        assert response.json()["choices"][0]["message"]["content"]
