"""Answers, thoughts, no calls at all, and custom tools, as grammars of each format."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
from rich_schemas import TOOLS
from samples import closers_of, decode, read, vocabulary_for, walk

from node.serving.grammar.calls import Custom, GrammarWriter, Tool
from parsers import FORMATS, ToolSpec
from tandem.errors import InvalidRequestError

NAMES = ("get", "get_weather", "files.edit-all")
CALLABLE = [Tool(name, json.dumps(TOOLS[name])) for name in NAMES]
SPECS = [ToolSpec(name, json.dumps(TOOLS[name])) for name in NAMES]
KEYS = sorted(FORMATS)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "city": {"type": "integer"},
        "names": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def closers(key: str) -> tuple[str, ...]:
    wire = FORMATS[key].wire
    return (*closers_of(wire), *([wire.answer[1]] if wire.answer[1] else []))


@pytest.mark.parametrize("key", KEYS)
def test_an_answer_is_json_of_the_schema(key: str) -> None:
    spec = FORMATS[key]
    for marked in (True, False):
        vocabulary = vocabulary_for(key, marked)
        start = vocabulary.matcher(vocabulary.writer(spec).answer(json.dumps(SCHEMA)))
        for number in range(4):
            ids = walk(vocabulary, start.deep_copy(), random.Random(number), closers(key))
            answer = read(spec, vocabulary, ids, [])
            assert not answer.calls
            jsonschema.validate(json.loads(answer.content), SCHEMA)


@pytest.mark.parametrize("key", KEYS)
def test_beside_tools_an_answer_is_json_or_calls_or_begins_with_a_thought(key: str) -> None:
    spec = FORMATS[key]
    kinds = set()
    for marked in (True, False):
        vocabulary = vocabulary_for(key, marked)
        grammar = vocabulary.writer(spec).answer(json.dumps(SCHEMA), CALLABLE, several=True, thought=True)
        start = vocabulary.matcher(grammar)
        for number in range(20):
            ids = walk(vocabulary, start.deep_copy(), random.Random(number), closers(key))
            text = decode(vocabulary, ids)
            if any(text.lstrip().endswith(thought.open.lstrip()) for thought in spec.thoughts):
                kinds.add("thought")
                continue
            answer = read(spec, vocabulary, ids, SPECS)
            assert not answer.warnings, text
            kinds.add("calls" if answer.calls else "answer")
            for name, arguments in answer.calls:
                jsonschema.validate(json.loads(arguments), TOOLS[name])
            if answer.calls:
                assert not answer.content.strip(), text
            else:
                jsonschema.validate(json.loads(answer.content), SCHEMA)
    assert kinds == {"calls", "answer"} | ({"thought"} if spec.thoughts else set())


@pytest.mark.parametrize("key", ["gpt_oss", "beam", "muse", "inkling", "solar_open"])
def test_behind_a_thought_the_answer_begins_a_message_of_its_own(key: str) -> None:
    spec, vocabulary = FORMATS[key], vocabulary_for(key)
    start = vocabulary.matcher(vocabulary.writer(spec).answer(json.dumps(SCHEMA)))
    text = f'{spec.wire.lead[0]}{spec.wire.answer[0]}{{"name": "x"}}{spec.wire.answer[1]}'
    ids = vocabulary.spell(text)
    assert start.validate_tokens(ids) == len(ids)
    thought = vocabulary.spell(f"{spec.thoughts[0].open}So.{spec.thoughts[0].close}")
    answer = read(spec, vocabulary, thought + ids, SPECS)
    assert (answer.reasoning, answer.content) == ("So.", '{"name": "x"}')


def test_json_of_no_schema_is_an_object() -> None:
    vocabulary = vocabulary_for("hermes")
    start = vocabulary.matcher(vocabulary.writer(FORMATS["hermes"]).answer(None))
    for text, fits in (('{"a": [1, {"b": null}]}', True), ("{}", True), ("[1]", False), ("1", False)):
        ids = vocabulary.spell(text)
        assert (start.validate_tokens(ids) == len(ids)) is fits


@pytest.mark.parametrize("key", KEYS)
def test_a_thought_may_come_first_and_what_stands_behind_it_may_begin_the_rest(key: str) -> None:
    spec = FORMATS[key]
    vocabulary = vocabulary_for(key)
    writer = vocabulary.writer(spec)
    first = vocabulary.matcher(writer.required(CALLABLE, several=True, thought=True))
    rest = vocabulary.matcher(writer.required(CALLABLE, several=True, thought=False))
    wire = next((one for one in (spec.wire, *spec.wire.also) if one.trigger in vocabulary.markers), spec.wire)
    opened = (wire.opening + wire.head).lstrip()
    # A section may be preferred whose trigger is a token.
    begin = vocabulary.spell(opened.partition("{")[0] or opened[:1])
    assert first.validate_tokens(begin) == len(begin)
    assert rest.validate_tokens(begin) == len(begin)
    for thought in spec.thoughts[:1]:
        ids = vocabulary.spell(thought.open.lstrip())
        assert rest.validate_tokens(ids) < len(ids)
        assert first.try_consume_tokens(ids) == len(ids)
        assert first.is_accepting()
        assert first.compute_ff_tokens() == []
        for between in ("", *("\n" * n for n in range(1, thought.after_close + 1)), *wire.lead):
            # What opening and head begin with is not written twice.
            begun = between + opened.removeprefix(between)
            ids = vocabulary.spell(begun.partition("{")[0])
            assert rest.validate_tokens(ids) == len(ids), begun


@pytest.mark.parametrize("key", KEYS)
def test_none_lets_no_opening_marker_through(key: str) -> None:
    spec = FORMATS[key]
    for marked in (True, False):
        vocabulary = vocabulary_for(key, marked)
        writer = vocabulary.writer(spec)
        grammar, masked = writer.none(), set(writer.openers)
        text = vocabulary.matcher(grammar) if grammar is not None else None
        wire = spec.wire
        for opener, state in spec.openers.items():
            if opener.startswith("```") or type(spec.states[state]).__name__ == "Header":
                continue
            ids = vocabulary.spell(opener)
            if masked & set(ids):
                continue
            # From a token that is no marker of calls alone on, the text begins anew.
            tokens = [at for at, token in enumerate(ids) if token in vocabulary.markers.values()]
            ids = ids[tokens[0] + 1 : tokens[1] if len(tokens) > 1 else None] if tokens else ids
            assert text is not None, (opener, wire.key)
            assert text.validate_tokens(ids) < len(ids), opener
        if text is not None:
            ids = vocabulary.spell("I would call f(x) < 3 and [1] {2}: `to be`, Action, function.\n\n</p> <p>")
            assert text.validate_tokens(ids) == len(ids)


def test_custom_tools_hold_their_one_text_to_a_regular_expression() -> None:
    tool = Tool("sql", custom=Custom("regex", r"SELECT \w{1,5}( LIMIT \d{1,2})?;"))
    specs = [ToolSpec("sql", '{"properties": {"input": {"type": "string"}}}')]
    for key in ("hermes", "qwen3_coder", "pythonic", "gemma4", "minimax_m3", "deepseek_v32", "kimi_k3"):
        spec, vocabulary = FORMATS[key], vocabulary_for(key)
        grammar = vocabulary.writer(spec).required([tool], several=False, thought=False)
        assert grammar.warnings == ()
        for number in range(5):
            ids = walk(vocabulary, vocabulary.matcher(grammar), random.Random(number), closers_of(spec.wire))
            ((name, arguments),) = read(spec, vocabulary, ids, specs).calls
            found = json.loads(arguments)
            assert name == "sql"
            assert list(found) == ["input"]
            jsonschema.validate(found["input"], {"pattern": r"^SELECT \w{1,5}( LIMIT \d{1,2})?;$"})


def test_custom_tools_hold_raw_text_to_lark_and_say_so_where_they_cannot() -> None:
    lark = 'start: "add" (" " NUMBER)+\nNUMBER: /[1-9][0-9]{0,2}/\n'
    tool = Tool("sum", custom=Custom("lark", lark))
    specs = [ToolSpec("sum", '{"properties": {"input": {"type": "string"}}}')]
    for key in ("qwen3_coder", "glm47", "deepseek_v32", "kimi_k3", "minimax_m2"):
        spec, vocabulary = FORMATS[key], vocabulary_for(key)
        grammar = vocabulary.writer(spec).required([tool], several=False, thought=False)
        assert grammar.warnings == ()
        for number in range(5):
            ids = walk(vocabulary, vocabulary.matcher(grammar), random.Random(number), closers_of(spec.wire))
            ((_, arguments),) = read(spec, vocabulary, ids, specs).calls
            jsonschema.validate(json.loads(arguments)["input"], {"pattern": r"^add( [1-9][0-9]{0,2})+$"})
    for key in ("hermes", "pythonic", "minimax_m3"):
        vocabulary = vocabulary_for(key)
        grammar = vocabulary.writer(FORMATS[key]).required([tool], several=False, thought=False)
        (warning,) = grammar.warnings
        assert "not enforced" in warning


@pytest.mark.parametrize("custom", [Custom("regex", "(?=a)b"), Custom("regex", "(a"), Custom("lark", "start: missing")])
def test_a_custom_syntax_that_is_none_is_the_clients_mistake(custom: Custom) -> None:
    vocabulary = vocabulary_for("qwen3_coder")
    writer = vocabulary.writer(FORMATS["qwen3_coder"])
    with pytest.raises(InvalidRequestError) as error:
        writer.required([Tool("bad", custom=custom)], several=False, thought=False)
    assert error.value.param == "tools"


def test_a_tool_that_can_never_be_called_is_left_out_unless_there_is_no_other() -> None:
    impossible = Tool("never", json.dumps({"properties": {"a": {"enum": []}}, "required": ["a"]}))
    vocabulary = vocabulary_for("hermes")
    writer = vocabulary.writer(FORMATS["hermes"])
    grammar = writer.required([impossible, Tool("f")], several=False, thought=False)
    assert grammar.warnings == ("tool 'never': nothing can satisfy the schema of its parameters",)
    assert "never" not in grammar.text
    with pytest.raises(InvalidRequestError, match="never") as error:
        writer.required([impossible], several=False, thought=False)
    assert error.value.param == "tools"
    # Where the model may do without, the request stands.
    assert writer.calls([impossible], several=False).warnings == grammar.warnings
    with pytest.raises(InvalidRequestError) as error:
        writer.answer('{"type": "string", "maxLength": 1, "minLength": 2}')
    assert error.value.param == "response_format"


def test_what_the_lexer_refuses_is_dropped_keyword_by_keyword() -> None:
    """The rest of the schema holds, and the warning names the place."""
    schema = {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
            "code": {"type": "string", "pattern": r"^\p{Nonsense}+$", "maxLength": 3},
            "kind": {"enum": ["a", "b"]},
        },
        "required": ["count", "code", "kind"],
    }
    vocabulary = vocabulary_for("hermes")
    grammar = vocabulary.writer(FORMATS["hermes"]).calls([Tool("f", json.dumps(schema))], several=False)
    assert grammar.warnings == (
        "tool 'f': count: minimum cannot be kept",
        "tool 'f': code: pattern or format cannot be kept",
    )
    start = vocabulary.matcher(grammar)
    for text, fits in (('"abc", "kind": "a"', True), ('"abcd", "kind": "a"', False), ('"abc", "kind": "c"', False)):
        ids = vocabulary.spell(f'<tool_call>\n{{"name": "f", "arguments": {{"count": 5, "code": {text}}}')
        assert (start.validate_tokens(ids) == len(ids)) is fits


def test_a_writer_that_is_refused_everything_says_so() -> None:
    writer = GrammarWriter(FORMATS["hermes"], {}, lambda text: "it is too much\nof it all")
    with pytest.raises(InvalidRequestError, match="it is too much"):
        writer.calls([Tool("f")], several=False)
