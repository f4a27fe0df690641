"""Through the head and the ring, with a model that writes noise: what is demanded holds all the same."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaged_vocabularies import tokenizer_folder
from random_head import RandomHead, Said, all_markers, make_folder, random_head, tool
from turn_walks import ANSWER, SCHEMAS

from node.serving.head import PipelineHead
from parsers import FORMATS as ALL_FORMATS
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2 as pb

FORMATS = (
    *("hermes", "qwen3_coder", "llama3_json", "mistral", "mistral_v3", "gpt_oss", "deepseek_v3", "deepseek_v32"),
    *("glm45", "kimi_k2", "gemma4", "lfm2", "minimax_m2", "minimax_m3", "command_r7b", "generic_none"),
)
"""One of each kind; every format is walked in ``test_constraint``."""
TOOLS = [tool(name, schema) for name, schema in SCHEMAS.items()]
INPUT = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
LONG = {"type": "object", "properties": {"text": {"type": "string", "minLength": 5000}}, "required": ["text"]}


@pytest.fixture(
    scope="module", params=[pytest.param(1, marks=pytest.mark.slow), 3], ids=lambda stages: f"{stages} stages"
)
def stages(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("marked"), all_markers())


@pytest.fixture
async def head(folder: Path, stages: int) -> AsyncIterator[RandomHead]:
    async with random_head(folder, FORMATS, stages=stages) as running:
        yield running


def check(said: Said, names: Sequence[str] = tuple(SCHEMAS), *, single: bool = False) -> None:
    """Nothing but calls to the tools, with arguments that fit.

    Where there may be several, the limit on tokens may have cut the last; a single one is whole, and ends the turn.
    """
    whole = said.calls
    if said.reason == "length" and said.warnings and not single:
        whole = said.calls[:-1]
        assert len(said.warnings) == 1, said
    else:
        assert not said.warnings, said
    assert whole and (len(said.calls) == 1 or not single), said
    if said.reason != "length" or single:
        assert said.reason == "tool_calls" and not said.content.strip(), said
    for name, arguments in whole:
        assert name in names, said
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])


def check_json(said: Said) -> None:
    """The whole of an answer in JSON."""
    assert said.reason == "stop" and not said.warnings, said
    jsonschema.validate(json.loads(said.content), json.loads(ANSWER))


async def test_all_that_can_be_demanded_at_once_and_beside_free_sequences(head: RandomHead) -> None:
    """Every sequence in the same steps as all others, each as if it were alone."""
    named = {"mode": "TOOL_CHOICE_MODE_REQUIRED", "names": ["get_weather"]}
    some = {"mode": "TOOL_CHOICE_MODE_REQUIRED", "names": ["get", "mcp.sum-up"]}
    shape = pb.ResponseFormat(json_schema=ANSWER)
    anything = pb.ResponseFormat(json_object=pb.JsonObjectFormat())

    async def one(key: str) -> None:
        ask = {"max_tokens": 700, "tools": TOOLS}
        said = await asyncio.gather(
            head.say(key, **ask, choice="required"),
            head.say(key, **ask, choice=named, parallel_tool_calls=False),
            head.say(key, **ask, choice=some),
            head.say(key, **ask, choice="none"),
            head.say(key, max_tokens=700, response_format=shape),
            head.say(key, **ask, response_format=shape),
            head.say(key, max_tokens=100, response_format=anything),
            head.say(key, max_tokens=60),
        )
        required, single, allowed, none, json_alone, json_beside, json_any, free = said
        check(required)
        check(single, ["get_weather"], single=True)
        check(allowed, ["get", "mcp.sum-up"])
        assert not none.calls
        check_json(json_alone)
        if json_beside.calls:
            check(json_beside)
        else:
            check_json(json_beside)
        assert json_any.content.lstrip().startswith("{")
        if json_any.reason == "stop":
            assert isinstance(json.loads(json_any.content), dict)
        assert not free.calls

    await asyncio.gather(*map(one, FORMATS))


@pytest.mark.slow
async def test_every_format_keeps_what_is_demanded(folder: Path) -> None:
    """Bounded schemas are complete and valid, each time, in every format there is."""
    ask: dict[str, Any] = {"max_tokens": 1000, "tools": TOOLS, "parallel_tool_calls": False}
    named = [{"mode": "TOOL_CHOICE_MODE_REQUIRED", "names": [name]} for name in SCHEMAS]
    shape = pb.ResponseFormat(json_schema=ANSWER)
    async with random_head(folder) as head:
        for key in sorted(ALL_FORMATS):
            said = await asyncio.gather(
                *(head.say(key, **ask, choice="required") for _ in range(3)),
                *(head.say(key, **ask, choice=choice) for choice in named),
                head.say(key, **{**ask, "parallel_tool_calls": True}, choice="required"),
                head.say(key, max_tokens=1000, response_format=shape),
                head.say(key, max_tokens=100, tools=TOOLS, choice="none"),
            )
            for single in said[:3]:
                check(single, single=True)
            for name, single in zip(SCHEMAS, said[3:6], strict=True):
                check(single, [name], single=True)
            check(said[6])
            check_json(said[7])
            assert not said[8].calls, key


async def test_what_is_alone_says_the_same_in_company(head: RandomHead) -> None:
    ask: dict[str, Any] = {"max_tokens": 300, "tools": TOOLS, "choice": "required", "parallel_tool_calls": False}
    alone = [await head.say("hermes", **ask, seed=seed) for seed in range(4)]
    company = [head.say("glm45", max_tokens=80) for _ in range(4)]
    together = await asyncio.gather(*(head.say("hermes", **ask, seed=seed) for seed in range(4)), *company)
    assert [said.tokens for said in together[:4]] == [said.tokens for said in alone]


async def test_without_an_end_the_grammar_holds_up_to_the_limit(head: RandomHead) -> None:
    said = await head.say("hermes", tools=[tool("write", LONG)], choice="required", max_tokens=90)
    assert said.reason == "length" and len(said.tokens) == 90
    name, arguments = said.calls[0]
    assert name == "write" and arguments.startswith('{"text": "')


async def test_a_thought_ends_in_time(head: RandomHead) -> None:
    for key in ("hermes", "gpt_oss", "kimi_k2"):
        opened = {"gpt_oss": "<|channel|>analysis<|message|>"}.get(key, "<think>")
        said = await head.say(
            key, tools=TOOLS, choice="required", max_tokens=300, opened=opened, parallel_tool_calls=False
        )
        check(said, single=True)
        assert len(said.tokens) <= 300


async def test_custom_tools_write_what_their_grammar_allows(head: RandomHead) -> None:
    dates = custom(pb.CUSTOM_SYNTAX_REGEX, r"20[0-9]{2}-(0[1-9]|1[0-2])")
    sums = custom(pb.CUSTOM_SYNTAX_LARK, 'start: term ("+" term){0,3}\nterm: NUMBER\nNUMBER: /[0-9]{1,3}/')
    for key in ("hermes", "qwen3_coder", "gpt_oss", "glm45"):
        for called, pattern in ((dates, r"20\d\d-\d\d"), (sums, r"\d{1,3}(\+\d{1,3}){0,3}")):
            said = await head.say(key, tools=[called], choice="required", parallel_tool_calls=False, max_tokens=4000)
            ((name, arguments),) = said.calls
            assert name == "note"
            fits = bool(re.fullmatch(pattern, json.loads(arguments)["input"]))
            if called is sums and key in ("hermes", "gpt_oss"):
                # In JSON it can only be checked.
                assert said.accepted and bool(said.warnings) != fits
            else:
                assert fits and not said.accepted and not said.warnings, (key, said)


def custom(syntax: pb.CustomSyntax, definition: str) -> pb.Tool:
    return tool("note", INPUT, custom=pb.CustomInput(syntax=syntax, definition=definition))


NOTHING = '{"type": "object", "required": ["a"], "properties": {"a": false}}'


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": pb.ResponseFormat(json_schema=NOTHING)}, "response_format"),
        ({"tools": [tool("f", custom=pb.CustomInput(syntax=pb.CUSTOM_SYNTAX_REGEX, definition="("))]}, "tools"),
        (
            {"tools": [tool("f", custom=pb.CustomInput(syntax=pb.CUSTOM_SYNTAX_LARK, definition="start: missing"))]},
            "tools",
        ),
        ({"tools": [tool("f", json.loads(NOTHING))], "choice": "required"}, "tools"),
    ],
)
async def test_the_impossible_is_refused_before_the_first_event(
    head: RandomHead, fields: dict[str, Any], param: str
) -> None:
    for key in ("hermes", "qwen3_coder"):
        with pytest.raises(InvalidRequestError) as refused:
            await head.say(key, **fields)
        assert (refused.value.param or "").startswith(param)
    await until_idle(head.head)


async def until_idle(head: PipelineHead) -> None:
    statistics = head.statistics()
    assert statistics is not None and statistics.waiting == statistics.decoding == 0


@pytest.mark.parametrize("name", [pytest.param("qwen", marks=pytest.mark.slow), "tekken"])
async def test_a_vocabulary_of_real_size(name: str) -> None:
    keys = ["hermes", "qwen3_coder"] if name == "qwen" else ["mistral", "hermes"]
    async with random_head(tokenizer_folder(name), keys, template=True) as head:
        for key in keys:
            ask: dict[str, Any] = {"tools": TOOLS, "max_tokens": 600}
            for said in await asyncio.gather(*(head.say(key, **ask, choice="required") for _ in range(4))):
                check(said)
            said = await head.say(key, max_tokens=600, response_format=pb.ResponseFormat(json_schema=ANSWER))
            check_json(said)
            said = await head.say(key, max_tokens=100, tools=TOOLS, choice="none")
            assert not said.calls
