"""Custom tools: a function with one string for the model, a call with an input for the client."""

import json
from itertools import pairwise
from typing import Any

import pytest
from gateway_harness import Gateway
from hypothesis import given
from hypothesis import strategies as st
from scripted_cluster import Event, ScriptedNode, call, content, finished, say

from gateway.openai.chat_answer import ChatAnswer
from gateway.openai.chat_request import ChatRequest, read_chat_request
from gateway.openai.chat_stream import ChatStream
from gateway.openai.chunks import AnswerHead
from gateway.openai.custom_tools import CustomInput, arguments_of
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2

FUNCTION = {"type": "function", "function": {"name": "f"}}
HEAD = AnswerHead("chatcmpl-x", 1, "demo")


def custom(name: str = "patch", **fields: Any) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": name, **fields}}


def grammar(syntax: str, definition: str) -> dict[str, Any]:
    return {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}


def read(**fields: Any) -> ChatRequest:
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}], **fields}
    return read_chat_request(json.dumps(body).encode())


def test_a_custom_tool_is_a_function_with_one_string() -> None:
    request = read(tools=[custom(description="Applies."), FUNCTION], tool_choice=custom())
    tool, other = request.generate.tools
    assert (tool.name, tool.description) == ("patch", "Applies.")
    assert json.loads(tool.parameters_json) == {
        "type": "object",
        "properties": {"input": {"type": "string"}},
        "required": ["input"],
        "additionalProperties": False,
    }
    assert tool.HasField("custom") and not other.HasField("custom")
    assert list(request.generate.tool_choice.names) == ["patch"]
    assert request.custom_tools == {"patch"}


@pytest.mark.parametrize("syntax", ["regex", "lark"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_grammar_reaches_the_head_and_the_model(syntax: str, flat: bool) -> None:
    wanted = {"type": "grammar", "syntax": syntax, "definition": "[a-z]+"} if flat else grammar(syntax, "[a-z]+")
    tool = read(tools=[custom(format=wanted)]).generate.tools[0]
    assert tool.custom.definition == "[a-z]+"
    assert generation_pb2.CustomSyntax.Name(tool.custom.syntax) == f"CUSTOM_SYNTAX_{syntax.upper()}"
    assert "[a-z]+" in json.loads(tool.parameters_json)["properties"]["input"]["description"]
    assert not read(tools=[custom(format={"type": "text"})]).generate.tools[0].custom.definition


def test_allowed_tools_may_be_custom() -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [custom(), FUNCTION]}}
    assert list(read(tools=[custom(), FUNCTION], tool_choice=choice).generate.tool_choice.names) == ["patch", "f"]


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "custom"}], "tools[0].custom"),
        ([custom("")], "tools[0].custom.name"),
        ([custom("has space")], "tools[0].custom.name"),
        ([custom(format=1)], "tools[0].custom.format"),
        ([custom(format={})], "tools[0].custom.format.type"),
        ([custom(format={"type": "xml"})], "tools[0].custom.format.type"),
        ([custom(format=grammar("peg", "x"))], "tools[0].custom.format.grammar.syntax"),
        ([custom(format=grammar("regex", ""))], "tools[0].custom.format.grammar.definition"),
        ([custom(format={"type": "grammar"})], "tools[0].custom.format.syntax"),
        ([custom("f"), FUNCTION], "tools"),
    ],
)
def test_what_is_wrong_with_a_custom_tool_is_named(tools: Any, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(tools=tools)
    assert caught.value.param == param


def decoded(arguments: str, cuts: list[int]) -> str:
    reader = CustomInput()
    places = sorted({0, len(arguments), *(cut % (len(arguments) + 1) for cut in cuts)})
    pieces = [arguments[a:b] for a, b in pairwise(places)]
    return "".join(reader.feed(piece) for piece in pieces) + reader.finish()


@given(st.text(), st.booleans(), st.lists(st.integers(0, 200)), st.sampled_from([None, 1, 4]))
def test_any_input_comes_out_as_it_went_in(text: str, ascii_only: bool, cuts: list[int], indent: int | None) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only, indent=indent)
    assert decoded(arguments, cuts) == text
    assert decoded(arguments_of(text), cuts) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("", ""),
        ("{}", ""),
        (' { "input" : "a"}', "a"),
        ('{"input": "a", "more": "b"}', "a"),
        ('{"input": "raw\nline', "raw\nline"),
        ('{"input": "cut \\', "cut "),
        ('{"input": "cut \\u00', "cut "),
        ('{"inp', ""),
        ('{"input": "half \\ud83d"}', "half \ufffd"),
        ('{"input": "half \\ud83d\\n"}', "half \ufffd\n"),
        ('{"input": "half \\udf06"}', "half \ufffd"),
        ('{"input": "pair \\ud83c\\udf06"}', "pair 🌆"),
        ('{"input": "odd \\uzzzz"}', "odd \\uzzzz"),
        ('{"command": "ls"}', '{"command": "ls"}'),
        ('{"input": 5}', '{"input": 5}'),
        ("ls -l", "ls -l"),
        ('["ls"]', '["ls"]'),
    ],
)
def test_odd_arguments_lose_nothing(arguments: str, text: str) -> None:
    for cuts in ([], [5], list(range(len(arguments)))):
        assert decoded(arguments, cuts) == text


PIECES = ('{"in', 'put": "*** Beg', "in\\n\\u00e9", "\\ud83c", '\\udf06"', "}")
TEXT = "*** Begin\né🌆"


def turn() -> list[Event]:
    return [
        content("Now."),
        *call(0, "patch", *PIECES),
        *call(1, "f", "{}"),
        *call(2, "patch", *PIECES),
        finished(generation_pb2.FINISH_REASON_TOOL_CALLS),
    ]


def test_a_custom_call_is_answered_with_its_input() -> None:
    answer = ChatAnswer(1, custom=frozenset({"patch"}))
    answer.feed(0, turn())
    (choice,) = answer.to_json(HEAD)["choices"]
    first, second, third = choice["message"]["tool_calls"]
    assert {key: first[key] for key in ("type", "custom")} == {
        "type": "custom",
        "custom": {"name": "patch", "input": TEXT},
    }
    assert second["type"] == "function" and second["function"] == {"name": "f", "arguments": "{}"}
    assert third["custom"]["input"] == TEXT and third["id"] != first["id"]
    assert choice["finish_reason"] == "tool_calls"


def test_the_input_streams_as_raw_text() -> None:
    stream = ChatStream(HEAD, 1, custom=frozenset({"patch"}))
    text = stream.feed(0, turn())
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in text.split("\n\n")[:-1]]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    opened = [one for one in calls if "id" in one]
    assert [(one["index"], one["type"]) for one in opened] == [(0, "custom"), (1, "function"), (2, "custom")]
    assert opened[0]["custom"] == {"name": "patch", "input": ""}
    pieces = [one["custom"]["input"] for one in calls if one["index"] == 0 and "id" not in one]
    assert "".join(pieces) == TEXT and len(pieces) == 3
    assert all(set(one) == {"index", "custom"} for one in calls if one["index"] == 0 and "id" not in one)


async def test_through_the_gateway(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(*turn(), warnings=["the tool patch: its grammar is only checked", "ünlike\nthis"])
    status, answer, response = await gateway.post(
        "/v1/chat/completions",
        {
            "model": "demo",
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"id": "c1", **custom(input='a "quoted" one')}]},
                {"role": "tool", "tool_call_id": "c1", "content": "done"},
            ],
            "tools": [custom(), FUNCTION],
        },
    )
    assert status == 200
    assert answer["choices"][0]["message"]["tool_calls"][0]["custom"] == {"name": "patch", "input": TEXT}
    assert response.headers["x-tandem-warning"] == "the tool patch: its grammar is only checked; ?nlike?this"
    said = head.request.conversation.messages[1].tool_calls[0]
    assert (said.name, json.loads(said.arguments_json)) == ("patch", {"input": 'a "quoted" one'})
