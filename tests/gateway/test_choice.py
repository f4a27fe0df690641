"""Plain and streamed answers are the same answer, however the events are cut into messages."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from scripted_cluster import Event, call, content, finished, reasoning

from gateway.openai.chat_answer import ChatAnswer
from gateway.openai.chat_stream import ChatStream
from gateway.openai.chunks import AnswerHead
from tandem.v1 import generation_pb2

HEAD = AnswerHead("chatcmpl-x", 1, 'a "model" @ {place}', "fp_1")


@st.composite
def turns(draw: st.DrawFn) -> list[Event]:
    """A whole turn: some text and thought, some calls, an end."""
    events: list[Event] = []
    for text in draw(st.lists(st.text(max_size=8), max_size=4)):
        events.append(draw(st.sampled_from([content, reasoning]))(text))
    for index in range(draw(st.integers(0, 3))):
        events += call(index, draw(st.text(min_size=1, max_size=5)), *draw(st.lists(st.text(max_size=6), max_size=4)))
        events.append(content(draw(st.text(max_size=3))))
    reason = draw(st.sampled_from([generation_pb2.FINISH_REASON_STOP, generation_pb2.FINISH_REASON_LENGTH]))
    return [*events, finished(reason), content("too late")]


def added_up(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message and finish reason that a client makes of a stream."""
    message: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    reason = None
    for chunk in chunks:
        (choice,) = chunk["choices"]
        assert reason is None
        reason = choice["finish_reason"]
        for name, value in choice["delta"].items():
            if name != "tool_calls":
                assert name != "role" or name not in message
                message[name] = message.get(name, "") + value
                continue
            (delta,) = value
            if "id" in delta:
                assert delta["index"] == len(calls)
                calls.append({"id": delta["id"], "type": delta["type"], "function": {**delta["function"]}})
            else:
                assert set(delta) == {"index", "function"}
                assert delta["index"] == len(calls) - 1
                calls[-1]["function"]["arguments"] += delta["function"]["arguments"]
    if calls:
        message["tool_calls"] = calls
    return {"message": message, "finish_reason": reason}


@given(turns(), st.data())
def test_any_cut_gives_one_answer(events: list[Event], data: st.DataObject) -> None:
    plain = ChatAnswer(1)
    plain.feed(0, events)
    choice = plain.to_json(HEAD)["choices"][0]
    stream = ChatStream(HEAD, 1)
    text = stream.opening()
    whole = ChatStream(HEAD, 1)
    at = 0
    while at < len(events):
        size = data.draw(st.integers(1, len(events)))
        text += stream.feed(0, events[at : at + size]) + stream.heartbeat()
        at += size
    assert text.replace(whole.heartbeat(), "") == whole.opening() + whole.feed(0, events)
    got = added_up([json.loads(line[6:]) for line in text.split("\n\n")[:-1]])
    message = choice["message"]
    assert message.pop("refusal") is None
    message["content"] = message["content"] or ""
    assert got == {"message": message, "finish_reason": choice["finish_reason"]}
    for made in message.get("tool_calls", ()):
        assert made["function"]["arguments"] != ""
