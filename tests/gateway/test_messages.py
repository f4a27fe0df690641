"""What becomes of a conversation on its way to the head."""

from typing import Any

import pytest

from gateway.openai.fields import Fields
from gateway.openai.messages import read_conversation
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2


def read(*messages: Any) -> list[generation_pb2.ChatMessage]:
    return list(read_conversation(Fields({"messages": list(messages)})).messages)


def error(*messages: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        read(*messages)
    return caught.value


def texts(message: generation_pb2.ChatMessage) -> list[str]:
    return [part.text for part in message.content]


def test_all_roles_arrive_in_order() -> None:
    messages = read(
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b", "name": "bob"},
        {"role": "assistant", "content": "c"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}, {"type": "text", "text": "e"}]},
        {"role": "user", "content": ""},
    )
    assert [message.role for message in messages] == [
        generation_pb2.ROLE_SYSTEM,
        generation_pb2.ROLE_USER,
        generation_pb2.ROLE_ASSISTANT,
        generation_pb2.ROLE_DEVELOPER,
        generation_pb2.ROLE_USER,
    ]
    assert [texts(message) for message in messages] == [["a"], ["b"], ["c"], ["d", "e"], [""]]
    assert messages[1].name == "bob"


def test_calls_and_results_arrive_verbatim_and_joined() -> None:
    calls = [
        {"id": "x1", "type": "function", "function": {"name": "f", "arguments": '{"b":1.0, "a":  1e5}'}},
        {"id": "x2", "type": "function", "function": {"name": "gone", "arguments": '{"broken'}},
        {"id": "x3", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"id": "x4", "type": "custom", "custom": {"name": "shell", "input": 'ls "a"\n'}},
    ]
    messages = read(
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
            "reasoning_content": "because",
            "tool_calls": calls,
        },
        {
            "role": "tool",
            "tool_call_id": "x2",
            "content": [{"type": "text", "text": "two", "prompt_cache_breakpoint": {}}],
        },
        {"role": "tool", "tool_call_id": "x1", "content": ""},
        {"role": "tool", "tool_call_id": "unknown", "content": "?"},
    )
    said = messages[1]
    assert texts(said) == []
    assert said.reasoning == "because"
    assert [(call.tool_call_id, call.name, call.arguments_json) for call in said.tool_calls] == [
        ("x1", "f", '{"b":1.0, "a":  1e5}'),
        ("x2", "gone", '{"broken'),
        ("x3", "g", "{}"),
        ("x4", "shell", '{"input": "ls \\"a\\"\\n"}'),
    ]
    results = [(message.tool_call_id, message.name, texts(message)) for message in messages[2:]]
    assert results == [("x2", "gone", ["two"]), ("x1", "f", [""]), ("unknown", "", ["?"])]


def test_an_assistant_may_say_nothing_or_refuse() -> None:
    messages = read(
        {"role": "assistant"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    )
    assert [texts(message) for message in messages] == [[], [], ["no"]]


def test_the_legacy_form_becomes_calls_and_results() -> None:
    messages = read(
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "2"},
    )
    ids = [message.tool_calls[0].tool_call_id for message in messages if message.tool_calls]
    assert len(set(ids)) == 2
    results = [message for message in messages if message.role == generation_pb2.ROLE_TOOL]
    assert [(message.tool_call_id, message.name) for message in results] == [(ids[0], "f"), (ids[1], "f")]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "input_text"])
def test_parts_that_are_not_text_are_refused_by_name(kind: str) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": kind, kind: {"url": "data:"}}]
    found = error({"role": "user", "content": "x"}, {"role": "user", "content": parts})
    assert found.param == "messages[1].content[1]"
    assert kind in found.message


CALL = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("text", "messages[0]"),
        (None, "messages[0]"),
        ({}, "messages[0].role"),
        ({"role": 1}, "messages[0].role"),
        ({"role": "robot", "content": "x"}, "messages[0].role"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "content": 1}, "messages[0].content"),
        ({"role": "user", "content": {"type": "text"}}, "messages[0].content"),
        ({"role": "user", "content": ["x"]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, "messages[0].content[0].text"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": "x", "name": 1}, "messages[0].name"),
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": ""}, "messages[0].tool_call_id"),
        ({"role": "tool", "tool_call_id": "x"}, "messages[0].content"),
        ({"role": "function", "content": "x"}, "messages[0].name"),
        ({"role": "assistant", "tool_calls": {}}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": ["x"]}, "messages[0].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": None}]}, "messages[0].tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "magic"}]}, "messages[0].tool_calls[0].type"),
        ({"role": "assistant", "tool_calls": [{**CALL, "function": None}]}, "messages[0].tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"role": "assistant", "function_call": {"arguments": "{}"}}, "messages[0].function_call.name"),
    ],
)
def test_what_is_wrong_is_named(message: Any, param: str) -> None:
    assert error(message).param == param


@pytest.mark.parametrize("messages", [None, [], "x", {}])
def test_there_must_be_messages(messages: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_conversation(Fields({"messages": messages}))
    assert caught.value.param == "messages"
