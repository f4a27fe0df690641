"""Compiling: once, off the loop, and within bounds whatever the schema is."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from demo_tokens import END, allowed, compiled, compiler, encode, tokens
from hostile_schemas import ANSWERS

from node.serving.grammar import compiler as module
from node.serving.grammar.calls import Grammar
from node.serving.grammar.compiler import Validate
from node.serving.grammar.demand import demand_of
from tandem.errors import InvalidRequestError, OverloadedError
from tandem.v1 import generation_pb2 as pb

SHORT = "start: /[a-z]{1,9}/"


async def test_a_grammar_is_compiled_once_and_the_least_used_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 2)
    written: list[str] = []

    def write(name: str) -> Grammar:
        written.append(name)
        return Grammar(SHORT, (name,))

    with compiler() as made:

        async def ask(name: str) -> tuple[str, ...]:
            return (await made.compile(name, lambda validate: write(name), param="tools")).warnings

        assert await asyncio.gather(*(ask("a") for _ in range(8))) == [("a",)] * 8
        assert written == ["a"]
        await ask("b")
        await ask("a")
        await ask("c")
        await ask("a")
        assert written == ["a", "b", "c"]
        await ask("b")
        assert written == ["a", "b", "c", "b"]


async def test_the_loop_goes_on_and_a_wait_that_is_cancelled_leaves_the_work_to_the_others() -> None:
    release = threading.Event()

    def write(validate: Validate) -> Grammar:
        assert threading.current_thread() is not threading.main_thread()
        assert release.wait(10)
        return Grammar(SHORT)

    with compiler() as made:
        first = asyncio.create_task(made.compile("a", write, param="tools"))
        second = asyncio.create_task(made.compile("a", write, param="tools"))
        await asyncio.sleep(0.05)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        release.set()
        assert (await second).prototype is (await made.compile("a", write, param="tools")).prototype


async def test_what_takes_too_long_is_the_requests_fault_and_what_waits_too_long_is_not() -> None:
    release = threading.Event()

    def block(validate: Validate) -> Grammar:
        release.wait(10)
        return Grammar(SHORT)

    with compiler(seconds=0.2) as made:
        slow = [asyncio.create_task(made.compile(number, block, param="tools")) for number in range(2)]
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadedError):
            await made.compile("waits", block, param="tools")
        for task in slow:
            with pytest.raises(InvalidRequestError, match=r"within 0\.2 s") as refused:
                await task
            assert refused.value.param == "tools"
        release.set()


async def test_a_writer_is_stopped_at_the_deadline() -> None:
    def write(validate: Validate) -> Grammar:
        while True:
            assert validate(SHORT) == ""

    with compiler(seconds=0.2) as made:
        begin = time.monotonic()
        with pytest.raises(InvalidRequestError, match="too complex"):
            await made.compile("a", write, param="tools")
        await asyncio.sleep(0.3)
        assert not made._under_way and time.monotonic() - begin < 5


async def test_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAITING", 3)
    release = threading.Event()

    def block(validate: Validate) -> Grammar:
        release.wait(10)
        return Grammar(SHORT)

    with compiler() as made:
        tasks = [asyncio.create_task(made.compile(number, block, param="tools")) for number in range(3)]
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadedError):
            await made.compile(3, block, param="tools")
        release.set()
        await asyncio.gather(*tasks)
        await made.compile(3, block, param="tools")


async def test_what_a_writer_raises_reaches_the_caller_and_is_not_kept() -> None:
    def write(validate: Validate) -> Grammar:
        raise InvalidRequestError("nothing fits", param="tools[1]")

    def recurse(validate: Validate) -> Grammar:
        return recurse(validate)

    with compiler() as made:
        for _ in range(2):
            with pytest.raises(InvalidRequestError) as refused:
                await made.compile("a", write, param="tools")
            assert refused.value.param == "tools[1]"
        with pytest.raises(InvalidRequestError, match="nested"):
            await made.compile("b", recurse, param="response_format")
        await compiled(made, SHORT)


@pytest.mark.parametrize(
    "text",
    [
        'start: "a',
        "start: missing",
        "start: A\nA: /a/ & /b/",
        "start: /[/",
        "start: /a(?=b)/",
        'start: %json {"type": "string", "minLength": 5, "maxLength": 2}',
        'start: %json {"type": "integer", "minimum": 5, "maximum": 2}',
        'start: %json {"type": "object", "properties": {"a": false}, "required": ["a"]}',
        'start: %json {"enum": []}',
    ],
)
async def test_a_grammar_that_is_none_or_allows_nothing_is_refused(text: str) -> None:
    with compiler() as made:
        with pytest.raises(InvalidRequestError) as refused:
            await compiled(made, text)
        assert refused.value.param == "tools"
        assert len(refused.value.message) < 400 and "\n" not in refused.value.message


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_hostile_schema_is_compiled_or_refused_within_bounds(name: str) -> None:
    """Neither the process nor the loop suffers, and the first masks come quickly or say what is wrong."""
    text = json.dumps(ANSWERS[name])
    assert len(text) < 128 * 1024, "the request would be refused for its length"
    with compiler() as made:
        begin = time.monotonic()
        longest = 0.0
        task = asyncio.create_task(compiled(made, f"start: %json {text}"))
        while not task.done():
            tick = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - tick)
        assert time.monotonic() - begin < 10
        assert longest < 1
        try:
            under = made.matcher(await task)
        except InvalidRequestError as refused:
            assert refused.param == "tools"
            return
        for _ in range(30):
            may = allowed(under.mask())
            if END in may:
                break
            assert under.consume(min(may))
        assert time.monotonic() - begin < 20


def asked(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(conversation=pb.Conversation(), **fields)


LONG = json.dumps({"description": "x" * 140_000})


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (asked(tools=[pb.Tool(name="f"), pb.Tool(name="g", parameters_json=LONG)]), "tools[1]"),
        (asked(tools=[pb.Tool(name="g", parameters_json=LONG[:100_000] + '"}')] * 30), "tools"),
        (asked(tools=[pb.Tool(name="g", parameters_json="{")]), "tools[0]"),
        (asked(tools=[pb.Tool(name="g", parameters_json="[]")]), "tools[0]"),
        (asked(tools=[pb.Tool(name="g", custom=pb.CustomInput(definition="x" * 200_000))]), "tools[0]"),
        (asked(response_format=pb.ResponseFormat(json_schema=LONG)), "response_format"),
        (asked(response_format=pb.ResponseFormat(json_schema="nope")), "response_format"),
        (asked(tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED)), "tool_choice"),
        (
            asked(tools=[pb.Tool(name="f")], tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_AUTO, names=["h"])),
            "tool_choice",
        ),
        (pb.GenerateRequest(text="x", response_format=pb.ResponseFormat(json_schema="{}")), "response_format"),
        (
            pb.GenerateRequest(
                text="x",
                tools=[pb.Tool(name="f")],
                tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED),
            ),
            "tool_choice",
        ),
    ],
)
def test_what_cannot_be_demanded_is_named(request_: pb.GenerateRequest, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        demand_of(request_)
    assert refused.value.param == param


def test_a_demand_is_what_the_request_says() -> None:
    tools = [pb.Tool(name="f", strict=True), pb.Tool(name="g")]
    auto = demand_of(asked(tools=tools))
    assert (
        auto is not None and auto.choice == "auto" and auto.several and [one.name for one in auto.tools] == ["f", "g"]
    )
    named = demand_of(
        asked(
            tools=tools,
            tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, names=["g"]),
            parallel_tool_calls=False,
        )
    )
    assert named is not None and (named.choice, named.several) == ("required", False)
    assert [one.name for one in named.tools] == ["g"]
    shaped = demand_of(asked(tools=tools, response_format=pb.ResponseFormat(json_schema="{}")))
    assert shaped is not None and shaped.json and shaped.schema == "{}" and len(shaped.tools) == 2
    none = pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE)
    nothing = demand_of(asked(tools=tools, tool_choice=none))
    assert nothing is not None and nothing.choice == "none" and not nothing.tools
    assert demand_of(asked()) is None
    assert demand_of(pb.GenerateRequest(text="x", tools=tools)) is None
    assert demand_of(asked(tools=tools)) == auto and hash(demand_of(asked(tools=tools))) == hash(auto)


def test_text_is_written_as_the_tokenizer_writes_it() -> None:
    vocabulary = tokens()
    for text in ('{"name": "get_weather"', " ", "\n\n", "žluťoučký 🙂", "<tool_call>", "a<|im_end|>b"):
        ids = vocabulary.write(text.encode())
        assert b"".join(vocabulary.bytes_of[one] for one in ids) == text.encode()
        assert not set(ids) & set(vocabulary.markers.values())
    assert vocabulary.write(b'{"city": "') == encode('{"city": "')
    assert vocabulary.write(b"") == []
    half = "🙂".encode()[:2]
    assert b"".join(vocabulary.bytes_of[one] for one in vocabulary.write(b"a" + half)) == b"a" + half
