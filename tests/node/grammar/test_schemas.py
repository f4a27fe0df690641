"""JSON schemas as grammars: what is kept of them, what is dropped and said, and that no schema does harm."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import jsonschema
import pytest
from demo_tokens import compiler
from hostile_schemas import TOOLS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from kept import kept
from random_schemas import NAMES, PLAIN_NAMES, schemas
from samples import Endless, closers_of, read, vocabulary_for, walk

from node.serving.grammar.calls import Grammar, GrammarWriter, Tool
from node.serving.grammar.compiler import Validate
from node.serving.grammar.lark import Lark
from node.serving.grammar.leaves import Leaves
from node.serving.grammar.names import UNWRITTEN
from node.serving.grammar.nodes import Never
from node.serving.grammar.schema import read_schema
from parsers import FORMATS, Format, ToolSpec
from tandem.errors import InvalidRequestError

SHARED = Path(__file__).parents[4] / "shared"
STYLES = ("hermes", "qwen3_coder", "pythonic", "gemma4", "minimax_m3", "deepseek_v32", "kimi_k3", "glm45")


def grammar_of(schema: Any, key: str = "hermes") -> Grammar:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return vocabulary_for(key).writer(FORMATS[key]).calls([Tool("f", text)], several=False)


@cache
def matcher_of(text: str) -> Any:
    return vocabulary_for("hermes").matcher(grammar_of(text))


def allows(schema: Any, value: str) -> bool:
    """Whether the grammar of JSON calls lets the arguments through, written as models write them."""
    vocabulary = vocabulary_for("hermes")
    ids = vocabulary.spell(f'<tool_call>\n{{"name": "f", "arguments": {value}}}\n</tool_call>')
    matcher = matcher_of(json.dumps(schema))
    return bool(matcher.validate_tokens(ids) == len(ids))


def a(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    (
        "order and what may be missing",
        {**a(x={}, y={}, z={}), "required": ["y"]},
        ['{"y": 1}', '{"x": 1, "y": 2, "z": 3}'],
        ["{}", '{"y": 1, "x": 2}', '{"y": 1, "w": 1}'],
    ),
    ("nothing to say", a(), ["{}"], ['{"x": 1}', "[]"]),
    ("any object", {"type": "object"}, ["{}", '{"x": [null, 1.5e3, "\\n"]}'], ["[]", '{"x":1}']),
    (
        "others of a kind",
        {**a(x={"type": "null"}), "additionalProperties": {"type": "integer"}},
        ['{"y": 1}', '{"x": null, "y": 1, "z": 2}'],
        ['{"x": 1}', '{"y": "a"}', '{"y": 1, "x": null}'],
    ),
    ("required and not listed", {**a(x={}), "required": ["y"]}, ['{"y": [1]}', '{"x": 1, "y": 2}'], ['{"x": 1}']),
    (
        "a bound left out, in the old way",
        a(x={"type": "integer", "minimum": 3, "exclusiveMinimum": True}),
        ['{"x": 4}'],
        ['{"x": 3}'],
    ),
    (
        "bounds of integers that are none",
        a(x={"type": "integer", "minimum": 0.5, "maximum": 2.5}),
        ['{"x": 1}', '{"x": 2}'],
        ['{"x": 0}', '{"x": 3}'],
    ),
    ("steps", a(x={"type": "integer", "multipleOf": 5}), ['{"x": 10}', '{"x": -5}'], ['{"x": 12}']),
    (
        "safe integers",
        a(x={"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991}),
        ['{"x": 9007199254740991}'],
        ['{"x": 9007199254740992}'],
    ),
    ("null in a list of types", a(x={"type": ["string", "null"]}), ['{"x": null}', '{"x": "a"}'], ['{"x": 1}']),
    (
        "null in the way of OpenAPI",
        a(x={"type": "integer", "nullable": True}),
        ['{"x": null}', '{"x": 1}'],
        ['{"x": "a"}'],
    ),
    (
        "null that only one of two schemas allows",
        a(x={"allOf": [{"type": "integer", "nullable": True}, {"type": "integer"}]}),
        ['{"x": 1}'],
        ['{"x": null}'],
    ),
    (
        "null that two schemas allow, each in its way",
        a(x={"allOf": [{"type": "integer", "nullable": True}, {"type": ["integer", "null"]}]}),
        ['{"x": 1}', '{"x": null}'],
        ['{"x": "a"}'],
    ),
    (
        "enum and type together",
        a(x={"type": "string", "enum": ["a", 1, None, "b"]}),
        ['{"x": "a"}', '{"x": "b"}'],
        ['{"x": 1}', '{"x": null}'],
    ),
    (
        "constants of all kinds",
        a(x={"enum": [1, "é\n", None, {"k": [True]}]}),
        ['{"x": 1}', '{"x": "é\\n"}', '{"x": null}', '{"x": {"k": [true]}}'],
        ['{"x": 2}', '{"x": {"k": []}}', '{"x": {}}'],
    ),
    ("enum within bounds", a(x={"enum": [1, 5, 50], "maximum": 10}), ['{"x": 5}'], ['{"x": 50}']),
    ("a pattern somewhere in the text", a(x={"type": "string", "pattern": "b+"}), ['{"x": "abc"}'], ['{"x": "ac"}']),
    (
        "a pattern and a length",
        a(x={"type": "string", "pattern": "^a|b$", "maxLength": 2}),
        ['{"x": "ac"}', '{"x": "cb"}'],
        ['{"x": "cc"}', '{"x": "abb"}'],
    ),
    (
        "two patterns",
        {"allOf": [a(x={"type": "string", "pattern": "^a"}), a(x={"pattern": "z$"})]},
        ['{"x": "az"}'],
        ['{"x": "a"}', '{"x": "z"}'],
    ),
    (
        "a format",
        a(x={"type": "string", "format": "date"}),
        ['{"x": "2024-02-29"}'],
        ['{"x": "2023-02-29"}', '{"x": "2024-13-01"}'],
    ),
    (
        "the first items",
        a(x={"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"}}),
        ['{"x": []}', '{"x": [1]}', '{"x": [1, "a", null, null]}'],
        ['{"x": ["a"]}', '{"x": [1, "a", 2]}'],
    ),
    (
        "the first items in the old way",
        a(x={"items": [{"type": "integer"}], "additionalItems": False, "minItems": 1}),
        ['{"x": [1]}'],
        ['{"x": []}', '{"x": [1, 2]}'],
    ),
    (
        "so many items",
        a(x={"type": "array", "minItems": 1, "maxItems": 2}),
        ['{"x": [1]}', '{"x": [{}, []]}'],
        ['{"x": []}', '{"x": [1, 2, 3]}'],
    ),
    (
        "so many members",
        {**a(x={}, y={}, z={}), "minProperties": 1, "maxProperties": 2},
        ['{"y": 1}', '{"x": 1, "z": 1}'],
        ["{}", '{"x": 1, "y": 1, "z": 1}'],
    ),
    (
        "names of a kind",
        {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "additionalProperties": {"type": "null"}},
        ['{"ab": null}'],
        ['{"A": null}', '{"ab": 1}'],
    ),
    (
        "names from a list",
        {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {}},
        ['{"a": 1, "b": 2}'],
        ['{"c": 1}'],
    ),
    (
        "properties by pattern",
        {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False},
        ['{"x-a": 1}'],
        ['{"x-a": "b"}', '{"a": 1}'],
    ),
    (
        "what depends on another",
        {**a(x={}, y={}), "dependentRequired": {"x": ["y"]}},
        ["{}", '{"y": 1}', '{"x": 1, "y": 1}'],
        ['{"x": 1}'],
    ),
    (
        "parts that add up",
        {"allOf": [a(x={}), {**a(y={}), "required": ["y"]}], "properties": {"z": {}}},
        ['{"y": 1}', '{"z": 1, "x": 1, "y": 1}'],
        ['{"z": 1, "x": 1}', '{"w": 1, "y": 1}'],
    ),
    (
        "parts that exclude",
        {"allOf": [{**a(x={}), "additionalProperties": False}, a(x={"type": "null"}, y={})]},
        ["{}", '{"x": null}'],
        ['{"x": 1}', '{"y": 1}'],
    ),
    (
        "alternatives of a base",
        {**a(k={"enum": ["a", "b"]}, x={}, y={}), "anyOf": [{"required": ["x"]}, {"required": ["y"]}]},
        ['{"x": 1}', '{"k": "a", "y": 1}'],
        ["{}", '{"k": "a"}'],
    ),
    (
        "alternatives that narrow",
        a(x={"type": "integer", "anyOf": [{"maximum": 1}, {"minimum": 8}]}),
        ['{"x": 0}', '{"x": 9}'],
        ['{"x": 5}', '{"x": "a"}'],
    ),
    (
        "a reference with a say of its own",
        {**a(x={"$ref": "#/definitions/t", "maxLength": 2}), "definitions": {"t": {"type": "string", "minLength": 1}}},
        ['{"x": "ab"}'],
        ['{"x": ""}', '{"x": "abc"}'],
    ),
    (
        "a reference through odd names",
        {**a(x={"$ref": "#/$defs/a~1b%20c"}), "$defs": {"a/b c": {"type": "null"}}},
        ['{"x": null}'],
        ['{"x": 1}'],
    ),
    (
        "what contains itself",
        {**a(x={"$ref": "#"}, v={"type": "integer"}), "required": ["v"]},
        ['{"v": 1}', '{"x": {"x": {"v": 3}, "v": 2}, "v": 1}'],
        ["{}", '{"x": {}, "v": 1}'],
    ),
    (
        "lists of themselves",
        {**a(x={"$ref": "#/$defs/l"}), "$defs": {"l": {"type": "array", "items": {"$ref": "#/$defs/l"}}}},
        ['{"x": [[], [[]]]}'],
        ['{"x": [1]}'],
    ),
    (
        "what can never end",
        {**a(x={"$ref": "#/$defs/n"}, y={}), "$defs": {"n": {**a(x={"$ref": "#/$defs/n"}), "required": ["x"]}}},
        ["{}", '{"y": 1}'],
        ['{"x": {}}'],
    ),
    (
        "not a constant",
        a(x={"type": "string", "not": {"enum": ["a", "ab"]}}, y={"type": "integer", "not": {"const": 3}}),
        ['{"x": ""}', '{"x": "b"}', '{"x": "abc"}', '{"y": 2}', '{"y": 31}'],
        ['{"x": "a"}', '{"x": "ab"}', '{"y": 3}'],
    ),
    (
        "not a type",
        a(x={"not": {"type": ["object", "null"]}}, y={"type": ["string", "integer"], "not": {"type": "string"}}),
        ['{"x": 1.5}', '{"x": [{}]}', '{"y": 1}'],
        ['{"x": {}}', '{"x": null}', '{"y": "a"}'],
    ),
    (
        "not both",
        {**a(x={}, y={}, z={}), "not": {"required": ["x", "y"]}},
        ["{}", '{"x": 1, "z": 1}', '{"y": 1}'],
        ['{"x": 1, "y": 1}'],
    ),
    (
        "not within bounds",
        a(x={"type": "integer", "not": {"minimum": 3, "maximum": 7}}, y={"type": "string", "not": {"minLength": 3}}),
        ['{"x": 2}', '{"x": 8}', '{"y": "ab"}'],
        ['{"x": 3}', '{"x": 7}', '{"y": "abc"}'],
    ),
    (
        "not what a reference leads to",
        {
            **a(x={"type": "integer", "not": {"$ref": "#/$defs/t"}}),
            "$defs": {"t": {"anyOf": [{"const": 1}, {"const": 2}]}},
        },
        ['{"x": 0}', '{"x": 3}'],
        ['{"x": 1}', '{"x": 2}'],
    ),
    (
        "a condition",
        {
            **a(kind={"enum": ["a", "b"]}, x={}, y={}),
            "required": ["kind"],
            "if": {"properties": {"kind": {"const": "a"}}},
            "then": {"required": ["x"]},
            "else": {"properties": {"x": False}, "required": ["y"]},
        },
        ['{"kind": "a", "x": 1}', '{"kind": "b", "y": 1}'],
        ['{"kind": "a", "y": 1}', '{"kind": "b", "x": 1, "y": 1}', '{"kind": "b"}'],
    ),
    (
        "a condition on a number",
        a(x={"type": "integer", "if": {"minimum": 1}, "then": {"maximum": 2}}),
        ['{"x": -7}', '{"x": 2}'],
        ['{"x": 5}', '{"x": "a"}'],
    ),
    (
        "something contained",
        a(x={"type": "array", "contains": {"const": 1}, "items": {"type": "integer"}}),
        ['{"x": [1]}', '{"x": [2, 3, 1, 4]}'],
        ['{"x": []}', '{"x": [2]}', '{"x": ["a", 1]}'],
    ),
    (
        "one of two that are required",
        {**a(x={}, y={}, z={}), "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
        ['{"x": 1}', '{"y": 1, "z": 1}'],
        ["{}", '{"x": 1, "y": 1}'],
    ),
    (
        "required, not listed, and of a kind by its name",
        {"type": "object", "required": ["xy"], "patternProperties": {"x": {"type": "number"}, "y": {"minimum": 3}}},
        ['{"xy": 3}'],
        ['{"xy": 2}', '{"xy": "a"}', "{}"],
    ),
    (
        "a pattern in one part and additional properties in another",
        {
            "allOf": [
                {"type": "object", "additionalProperties": {"minimum": 3}},
                {"type": "object", "patternProperties": {"^x": {"type": "integer"}}},
            ]
        },
        ['{"x": 3}', "{}"],
        ['{"x": 2}', '{"x": 3.5}'],
    ),
    (
        "a number by an integer's steps",
        a(x={"type": "number", "exclusiveMinimum": 0.5, "maximum": 2.5, "multipleOf": 1.0}),
        ['{"x": 1}', '{"x": 2}'],
        ['{"x": 0}', '{"x": 3}', '{"x": 1.5}'],
    ),
    (
        "what may not be there where it is required",
        a(x={**a(z={}), "required": ["y"], "additionalProperties": False}, y={}),
        ['{"y": 1}'],
        ['{"x": {}}', '{"x": {"y": 1}}'],
    ),
    (
        "properties by a pattern that only a real engine can read",
        {**a(ab={}, b={}), "patternProperties": {"^(?=a)": {"type": "null"}}, "additionalProperties": {}},
        ['{"ab": null, "b": 1}', '{"c": null}'],
        ['{"ab": 1}'],
    ),
    (
        "more members than those that are not listed can count for",
        {**a(x={}, y={}), "minProperties": 2, "additionalProperties": True},
        ['{"x": 1, "y": 1}'],
        ['{"x": 1}', '{"x": 1, "x": 1}'],
    ),
    ("a type's other name", a(x={"type": "int"}, y={"type": "str"}), ['{"x": 1, "y": "a"}'], ['{"x": "a"}']),
    (
        "remarks",
        a(x={"type": "integer", "title": "X", "default": 1, "examples": [2], "x-order": 1, "format": "int32"}),
        ['{"x": 3}'],
        ['{"x": "a"}'],
    ),
]


@pytest.mark.parametrize(("schema", "fine", "wrong"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_a_schema_allows(schema: dict[str, Any], fine: list[str], wrong: list[str]) -> None:
    assert grammar_of(schema).warnings == ()
    for value in fine:
        assert allows(schema, value), value
    for value in wrong:
        assert not allows(schema, value), value


DROPPED: list[tuple[dict[str, Any], str, str, str]] = [
    (
        a(x={"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        "x: uniqueItems cannot be kept",
        '{"x": [1, 1]}',
        '{"x": ["a"]}',
    ),
    (
        a(x={"type": "string", "pattern": "(?=a)b", "maxLength": 1}),
        "x: pattern cannot be kept: look-around, flags and the like",
        '{"x": "c"}',
        '{"x": "cc"}',
    ),
    (
        a(x={"type": "string", "format": "colour", "maxLength": 1}),
        "x: format 'colour' is not known",
        '{"x": "c"}',
        '{"x": "cc"}',
    ),
    (a(x={"type": "string", "not": {"pattern": "a"}}), "x: not cannot be kept", '{"x": "a"}', '{"x": 1}'),
    (
        a(x={"type": "integer", "if": {"multipleOf": 2}, "then": {"maximum": 2}}),
        "x: if cannot be kept",
        '{"x": 4}',
        '{"x": "a"}',
    ),
    (
        a(x={"type": "array", "contains": {"const": 1}, "maxContains": 2, "items": {"type": "integer"}}),
        "x: contains cannot be kept",
        '{"x": [2]}',
        '{"x": ["a"]}',
    ),
    (a(x={"oneOf": [{"type": "integer"}, {"type": "number"}]}), "x: oneOf is read as anyOf", '{"x": 1}', '{"x": "a"}'),
    (
        a(x={"$ref": "http://example.com/x"}, y={"type": "null"}),
        "x: $ref 'http://example.com/x' leads nowhere",
        '{"x": [1], "y": null}',
        '{"y": 1}',
    ),
    (
        a(x={"type": "quaternion"}, y={"type": "null"}),
        "x: there is no type 'quaternion'",
        '{"x": [1], "y": null}',
        '{"y": 1}',
    ),
    (
        {**a(x={"type": "null"}), "required": ["y"], "additionalProperties": False},
        "the schema: the property 'y' is required and yet may not be there",
        '{"x": null}',
        '{"x": null, "y": 1}',
    ),
    (a(x={"type": "string", "maxLength": "many"}), "x: maxLength cannot be kept", '{"x": "abc"}', '{"x": 1}'),
    (a(x=5, y={"type": "null"}), "x: it is no schema", '{"x": [1], "y": null}', '{"y": 1}'),
]


@pytest.mark.parametrize(("schema", "warning", "fine", "wrong"), DROPPED, ids=[case[1] for case in DROPPED])
def test_what_cannot_be_kept_is_said_and_the_rest_holds(
    schema: dict[str, Any], warning: str, fine: str, wrong: str
) -> None:
    assert grammar_of(schema).warnings == (f"tool 'f': {warning}",)
    assert allows(schema, fine)
    assert not allows(schema, wrong)


def test_one_of_alternatives_that_exclude_each_other_is_kept() -> None:
    by_kind = {
        "oneOf": [
            {**a(k={"const": kind}, v={"type": of}), "required": ["k"]}
            for kind, of in (("n", "number"), ("s", "string"))
        ]
    }
    by_name = {"oneOf": [{**a(x={}), "required": ["x"]}, {**a(y={}), "required": ["y"]}]}
    by_type = {"oneOf": [{"type": "string"}, {"type": "array", "items": {}}, {"enum": [1, 2]}]}
    assert grammar_of(a(p=by_kind, q=by_name, r=by_type)).warnings == ()


@pytest.mark.parametrize("key", STYLES)
def test_a_number_that_ends_with_its_last_digit_is_followed_by_a_marker(key: str) -> None:
    """The lexer fails where digits that only a number's step has ended stand before a marker that is one token."""
    spec, vocabulary = FORMATS[key], vocabulary_for(key)
    schema = {**a(n={"type": "number", "minimum": 1, "maximum": 9, "multipleOf": 2}), "required": ["n"]}
    start = vocabulary.matcher(grammar_of(schema, key))
    found = set()
    for number in range(12):
        ids = walk(vocabulary, start.deep_copy(), random.Random(number), closers_of(spec.wire), 400)
        answer = read(spec, vocabulary, ids, [ToolSpec("f", json.dumps(schema))])
        assert not answer.warnings
        found.add(json.loads(answer.calls[0][1])["n"])
    assert found <= {2, 4, 6, 8} and len(found) > 1


def test_what_an_element_would_be_read_as_another_type_is_not_written() -> None:
    """Text of a type that the schema does not tell is read as a string, which this schema excludes."""
    grammar = grammar_of(a(x={"not": {"type": "string"}}), "minimax_m3")
    assert grammar.warnings == ("tool 'f': x: the format cannot write the parameter, so that it is never there",)


def test_a_long_string_that_the_lexer_cannot_keep_apart_from_a_tag_may_be_shorter() -> None:
    """It would refuse the whole grammar, and the request with it."""
    grammar = grammar_of(a(o=a(s={"type": "string", "minLength": 45})), "deepseek_v32")
    assert grammar.warnings == ("tool 'f': o.s: minLength cannot be kept",)
    vocabulary_for("deepseek_v32").matcher(grammar)


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", "null", "1", '"x"', "[" * 5000, '{"a":' * 5000])
def test_a_schema_that_is_none_allows_any_object_or_none(text: str) -> None:
    grammar = grammar_of(text)
    assert grammar.warnings == (
        ("tool 'f': the schema: it is no JSON schema, or one nested too deeply",) if text else ()
    )


@pytest.mark.parametrize("name", list(TOOLS))
@pytest.mark.parametrize("key", ["hermes", "qwen3_coder", "minimax_m3"])
def test_no_schema_takes_long_or_does_harm(name: str, key: str) -> None:
    started = time.process_time()
    grammar = grammar_of(TOOLS[name], key)
    vocabulary_for(key).matcher(grammar)
    assert time.process_time() - started < 5
    assert len(grammar.text) < 2_000_000


def unheld(grammar: Grammar) -> list[str]:
    """The warnings that say that something is not held. The others say that less can be written than would fit."""
    return [warning for warning in grammar.warnings if not warning.endswith(UNWRITTEN.partition("{}")[2])]


def with_null(schema: Any) -> Any:
    """The schema in the words of the newest draft, which has no `nullable`, and of the validator."""
    if isinstance(schema, list):
        return [with_null(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key in ("enum", "const") else with_null(value) for key, value in schema.items()}
    if isinstance(found.get("patternProperties"), dict):
        # The validator takes an empty pattern for none.
        found["patternProperties"] = {pattern or "^": one for pattern, one in found["patternProperties"].items()}
    if found.pop("nullable", False) is True and "type" in found:
        found["type"] = [*(found["type"] if isinstance(found["type"], list) else [found["type"]]), "null"]
    return found


def check_random(schema: dict[str, Any], key: str, compile_: Callable[[Format, Tool], None]) -> tuple[bool, int]:
    """Samples of a random schema's grammar fit it, or where something was dropped, what was kept of it.

    Whether something was dropped; how many samples.
    """
    text = json.dumps(schema)
    spec, vocabulary, tool = FORMATS[key], vocabulary_for(key), Tool("f", json.dumps(schema))
    compile_(spec, tool)
    grammar = vocabulary.writer(spec).calls([tool], several=False)
    dropped = unheld(grammar)
    known = read_schema(text)
    careful = len(grammar.warnings) > len(set(known.warnings))
    unwritten = [one.removeprefix("tool 'f': ") for one in dropped if "the format cannot write" in one]
    unnamed = {one.split(": the format cannot write ")[0] for one in unwritten}
    found = kept(known, Leaves(Lark({}), vocabulary.validate, "", careful=careful), unnamed)
    if isinstance(known.root, Never):
        found = {"type": "object"}
        with pytest.raises(InvalidRequestError):
            vocabulary.writer(spec).required([tool], several=False, thought=False)
    whole = None if dropped else jsonschema.Draft202012Validator(with_null(schema))
    check = jsonschema.Draft202012Validator(found)
    start, count = vocabulary.matcher(grammar), 0
    for number in range(3):
        try:
            ids = walk(vocabulary, start.deep_copy(), random.Random(number), closers_of(spec.wire), 400)
        except Endless:
            continue
        answer = read(spec, vocabulary, ids, [ToolSpec("f", text)])
        assert not answer.warnings
        ((name, arguments),) = answer.calls
        assert name == "f"
        check.validate(json.loads(arguments))
        if whole is not None:
            try:
                whole.validate(json.loads(arguments))
            except RecursionError:
                # What is nothing but itself has no meaning to a validator; what was kept of it has been checked.
                assert "$ref" in text
        count += 1
    return bool(dropped), count


def check_many(
    count: int,
    keys: tuple[str, ...],
    number_of_seed: int,
    names: st.SearchStrategy[str] = NAMES,
    *,
    most: float = 0.2,
) -> None:
    """Random schemas, of which at most a share is not held whole."""
    degraded, samples, number = [0], [0], [0]
    with compiler() as made, asyncio.Runner() as runner:

        def compile_(spec: Format, tool: Tool) -> None:
            """With the vocabulary of a model, and within the time that a request has."""

            def write(validate: Validate) -> Grammar:
                return GrammarWriter(spec, made.tokens.markers, validate).calls([tool], several=False)

            runner.run(made.compile((spec.key, tool), write, param="tools"))

        @seed(number_of_seed)
        @settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(schemas(names))
        def check(schema: dict[str, Any]) -> None:
            number[0] += 1
            dropped, walked = check_random(schema, keys[crc32(json.dumps(schema).encode()) % len(keys)], compile_)
            degraded[0] += dropped
            samples[0] += walked

        check()
    print(f"{degraded[0]} of {number[0]} degraded, {samples[0]} samples")
    assert degraded[0] <= number[0] * most, f"{degraded[0]} of {number[0]} degraded"
    assert samples[0] > 2 * number[0]


def test_random_schemas_are_kept() -> None:
    check_many(60, ("hermes",), 4, most=0.3)


def test_random_schemas_are_kept_in_every_notation() -> None:
    # So few may all be of a kind; the share is that of the many.
    check_many(64, STYLES, 4, most=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("number", [4, 7])
def test_a_thousand_random_schemas_are_kept(number: int) -> None:
    check_many(1000, ("hermes",), number)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "names"), [(4, NAMES), (7, PLAIN_NAMES)], ids=["odd names", "plain names"])
def test_a_thousand_random_schemas_are_kept_in_every_notation(number: int, names: st.SearchStrategy[str]) -> None:
    check_many(1000, STYLES, number, names)


@pytest.mark.parametrize("key", STYLES)
def test_schemas_of_real_tools_are_kept_whole(key: str) -> None:
    corpus = SHARED / "tool-cases" / "cases.jsonl"
    if not corpus.exists():
        pytest.skip("the shared corpus does not lie beside the checkout")
    known: dict[str, str] = {}
    for line in corpus.read_text().splitlines():
        for tool in json.loads(line)["tools"] or []:
            function = tool.get("function", tool)
            if "parameters" in function:
                known[json.dumps(function["parameters"])] = function["name"]
    assert len(known) > 150
    for text, name in known.items():
        if key in ("pythonic", "gemma4", "kimi_k3") and "with spaces" in text:
            # Names that these notations have no way to write.
            continue
        grammar = vocabulary_for(key).writer(FORMATS[key]).calls([Tool(name, text)], several=True)
        assert grammar.warnings == (), text


@pytest.mark.parametrize("key", STYLES)
def test_schemas_of_real_agents_are_kept_whole(key: str) -> None:
    tools = json.loads((Path(__file__).parent / "agent_schemas.json").read_text())
    made = [Tool(name, json.dumps(schema)) for name, schema in tools.items()]
    grammar = vocabulary_for(key).writer(FORMATS[key]).calls(made, several=True)
    assert grammar.warnings == ()
