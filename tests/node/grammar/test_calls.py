"""Whatever a grammar lets a model write, the format's parser reads as calls that fit their schemas."""

from __future__ import annotations

import json
import random
from functools import cache

import jsonschema
import pytest
from kept import kept
from rich_schemas import TOOLS
from samples import Vocabulary, closers_of, decode, read, vocabulary_for, walk

from node.serving.grammar.calls import Grammar, Tool
from node.serving.grammar.lark import Lark
from node.serving.grammar.leaves import Leaves
from node.serving.grammar.schema import read_schema
from parsers import FORMATS, ToolSpec

CALLABLE = [Tool(name, json.dumps(schema)) for name, schema in TOOLS.items()]
SPECS = [ToolSpec(name, json.dumps(schema)) for name, schema in TOOLS.items()]
KEYS = sorted(FORMATS)


@cache
def checks(name: str) -> tuple[jsonschema.Draft202012Validator, jsonschema.Draft202012Validator]:
    """Of the schema itself, and of what grammars keep of it, where objects that list properties are closed."""
    schema = TOOLS[name]
    closed = kept(read_schema(json.dumps(schema)), Leaves(Lark({}), lambda text: "", "", careful=False))
    formats = jsonschema.FormatChecker()
    return jsonschema.Draft202012Validator(schema, format_checker=formats), jsonschema.Draft202012Validator(closed)


def check_samples(
    key: str, vocabulary: Vocabulary, grammar: Grammar, numbers: range, *, several: bool = True
) -> set[str]:
    """Walks through the grammar; the names that were called."""
    assert grammar.warnings == ()
    spec, start, called = FORMATS[key], vocabulary.matcher(grammar), set[str]()
    for number in numbers:
        ids = walk(vocabulary, start.deep_copy(), random.Random(number), closers_of(spec.wire))
        answer = read(spec, vocabulary, ids, SPECS)
        text = decode(vocabulary, ids)
        assert answer.calls, text
        assert not answer.content.strip(), text
        assert not answer.reasoning, text
        assert not answer.warnings, text
        assert several or len(answer.calls) == 1, text
        for name, arguments in answer.calls:
            for check in checks(name):
                check.validate(json.loads(arguments))
            called.add(name)
    return called


def check_format(key: str, count: int) -> None:
    called = set[str]()
    for marked in (True, False):
        vocabulary = vocabulary_for(key, marked)
        writer = vocabulary.writer(FORMATS[key])
        ways = (
            (writer.calls(CALLABLE, several=True), True),
            (writer.required(CALLABLE, several=True, thought=False), True),
            (writer.required(CALLABLE, several=False, thought=False), False),
            (writer.calls(CALLABLE, several=False), False),
        )
        for number, (grammar, several) in enumerate(ways):
            numbers = range(number * count, (number + 1) * count)
            called |= check_samples(key, vocabulary, grammar, numbers, several=several)
    # The walks went everywhere.
    assert count < 25 or called == TOOLS.keys()


@pytest.mark.parametrize("key", KEYS)
def test_samples_are_calls_that_fit_their_schemas(key: str) -> None:
    check_format(key, 3)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_two_hundred_samples_are_calls_that_fit_their_schemas(key: str) -> None:
    check_format(key, 50)


@pytest.mark.parametrize("key", KEYS)
def test_what_opens_a_call_wakes_the_grammar_that_goes_on_with_it(key: str) -> None:
    """Every way to open a call but the openers of messages, of fences and of the other shape of the same call."""
    spec = FORMATS[key]
    for marked in (True, False):
        vocabulary = vocabulary_for(key, marked)
        writer = vocabulary.writer(spec)
        start = vocabulary.matcher(writer.calls(CALLABLE, several=True))
        for wire in (spec.wire, *spec.wire.also):
            head = (wire.opening + wire.head).replace("{name}", "get_weather").replace("{index}", "0")
            opened = head.replace("{id}", "a1b2c3d4e") + "get_weather" + wire.middle
            opened = opened.replace("{index}", "0").replace("{id}", "a1b2c3d4e")
            assert writer.wakes(opened, True)
            assert not wire.trigger or writer.wakes(opened, False), opened
            for begun in (opened, *(lead + opened for lead in wire.lead if not opened.startswith(lead))):
                ids = vocabulary.spell(begun)
                assert start.validate_tokens(ids) == len(ids), begun
            if wire.omitted:
                rest = opened[len(wire.omitted.replace("{name}", "get_weather")) :]
                assert writer.wakes(rest, False), rest
                ids = vocabulary.spell(rest)
                assert start.validate_tokens(ids) == len(ids), rest
        assert not writer.wakes("The answer", False)
        assert not writer.wakes("", False)


@pytest.mark.parametrize("key", ["beam", "muse", "muse_glimmer", "gpt_oss"])
def test_messages_to_people_and_thoughts_wake_nothing(key: str) -> None:
    writer = vocabulary_for(key).writer(FORMATS[key])
    for text in (
        " to=user<|message|>Hi",
        "<|start|>assistant to=self<|message|>",
        " to=",
        " to=al",
        "<|channel|>final",
    ):
        assert not writer.wakes(text, False), text
    prefix = "functions." if key == "gpt_oss" else ""
    assert writer.wakes(f"<|start|>assistant to={prefix}get_w", False)


@pytest.mark.parametrize("key", ["llama3_json", "xlam", "generic_none"])
def test_a_bare_call_may_be_begun_with_other_white_space_and_other_keys(key: str) -> None:
    vocabulary = vocabulary_for(key)
    start = vocabulary.matcher(vocabulary.writer(FORMATS[key]).calls(CALLABLE, several=True))
    bracket = "[" if key == "xlam" else ""
    for text in (
        '{"name":"get_weather","parameters":{"city": "Rome"}}',
        '\n{\n  "name": "get_weather",\n  "arguments": {"city": "Rome"}}',
        '{"type": "function", "name": "get", "parameters": {}}',
    ):
        ids = vocabulary.spell(bracket + text)
        assert start.validate_tokens(ids) == len(ids), text
    for text in ('{"name": "get_wea"', '{"nam"', '{"name": "get", "parameters": {"city"'):
        ids = vocabulary.spell(bracket + text)
        assert start.validate_tokens(ids) < len(ids), text


def test_a_name_that_is_no_tool_cannot_be_written() -> None:
    vocabulary = vocabulary_for("hermes")
    start = vocabulary.matcher(vocabulary.writer(FORMATS["hermes"]).calls(CALLABLE, several=True))
    for name in ("ge", "get_weathe", "get_weather2", "files.edit", "files_edit-all", "GET"):
        ids = vocabulary.spell(f'<tool_call>\n{{"name": "{name}", "arguments": ')
        assert start.validate_tokens(ids) < len(ids), name


@pytest.mark.parametrize("key", ["hermes", "qwen3_coder", "llama3_json", "kimi_k2", "gemma4"])
def test_three_hundred_tools_make_one_grammar(key: str) -> None:
    names = [f"server{i % 7}.tool-{i}" for i in range(300)]
    many = [Tool(name, json.dumps(TOOLS["get_weather"])) for name in names]
    vocabulary = vocabulary_for(key)
    grammar = vocabulary.writer(FORMATS[key]).required(many, several=False, thought=False)
    start = vocabulary.matcher(grammar)
    specs = [ToolSpec(tool.name, tool.parameters_json) for tool in many]
    ids = walk(vocabulary, start, random.Random(1), closers_of(FORMATS[key].wire))
    answer = read(FORMATS[key], vocabulary, ids, specs)
    assert [name for name, _ in answer.calls if name in names]
    # What all tools have in common is written once.
    assert len(grammar.text) < 300 * 250


def test_a_tool_without_a_schema_takes_no_arguments_and_an_empty_schema_any() -> None:
    vocabulary = vocabulary_for("hermes")
    writer = vocabulary.writer(FORMATS["hermes"])
    start = vocabulary.matcher(writer.calls([Tool("f"), Tool("g", "{}")], several=False))

    def taken(text: str) -> bool:
        ids = vocabulary.spell(f"<tool_call>\n{text}}}\n</tool_call>")
        return bool(start.validate_tokens(ids) == len(ids))

    assert taken('{"name": "f", "arguments": {}')
    assert not taken('{"name": "f", "arguments": {"a": 1}')
    assert taken('{"name": "g", "arguments": {"a": [1, {"b": null}]}')
    assert not taken('{"name": "g", "arguments": [1]')
