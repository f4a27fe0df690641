"""JSON schemas that are meant to do harm."""

from __future__ import annotations

from typing import Any


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = _object(x=schema)
    return schema


def _conditional(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"if": _object(x=schema), "then": _object(x=schema), "else": _object(y=schema)}
    return schema


def _containing(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema, "contains": {**schema, "minItems": 1}}
    return schema


def _negated(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"const": 1}
    for _ in range(depth):
        schema = {"not": {"anyOf": [schema, {"not": {"allOf": [schema, {"type": "integer"}]}}]}}
    return schema


TOOLS: dict[str, dict[str, Any]] = {
    "conditions in conditions": _object(x=_conditional(8)),
    "contained in what is contained": _object(x=_containing(8)),
    "negations of negations": _object(x=_negated(9)),
    "not of itself": {
        **_object(x={"$ref": "#/$defs/a"}),
        "$defs": {"a": {"not": {"anyOf": [{"$ref": "#/$defs/a"}] * 4}}},
    },
    "one of many": _object(x={"oneOf": [{**_object(**{f"p{i}": {}}), "required": [f"p{i}"]} for i in range(200)]}),
    "one of many that overlap": _object(x={"oneOf": [{"required": [f"p{i}"]} for i in range(16)]}),
    "names that a pattern takes for ever to refuse": {
        **_object(**{"a" * 40 + f"!{i}": {} for i in range(200)}),
        "patternProperties": {"^((a+)+)+$": {"type": "null"}, "(?=a)((a+)+)+$": {"type": "null"}},
    },
    "values that a pattern takes for ever to refuse": _object(
        x={"enum": ["a" * 40 + f"!{i}" for i in range(200)], "type": "string", "pattern": "^((a+)+)+$"}
    ),
    "parts with names that a pattern takes for ever to refuse": {
        "allOf": [
            {"type": "object", "patternProperties": {"^((a+)+)+$": {"type": "null"}}},
            _object(**{"a" * 40 + f"!{i}": {} for i in range(200)}),
        ]
    },
    "deep": _nested(60),
    "too deep": _nested(300),
    "wide": _object(**{f"p{i}": {"type": "string"} for i in range(3000)}),
    "many constants": _object(x={"enum": [f"value {i}" for i in range(5000)]}),
    "a product": _object(x={"allOf": [{"anyOf": [{"maximum": i}, {"minimum": -i}]} for i in range(30)]}),
    "alternatives of alternatives": _object(
        x={
            "anyOf": [
                {"anyOf": [{"anyOf": [{"const": f"{i}{j}{k}"} for i in range(9)]} for j in range(9)]} for k in range(9)
            ]
        }
    ),
    "references to references": {
        **_object(x={"$ref": "#/$defs/d0"}),
        "$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 4} for i in range(30)},
    },
    "twice each time": {
        **_object(x={"$ref": "#/$defs/d0"}),
        "$defs": {
            f"d{i}": _object(l={"$ref": f"#/$defs/d{i + 1}"}, r={"$ref": f"#/$defs/d{i + 1}"}) for i in range(40)
        },
    },
    "growing with every round": {
        "$defs": {
            "a": {"allOf": [{"$ref": "#/$defs/b"}, _object(c={"$ref": "#/$defs/a"})]},
            "b": _object(c={"$ref": "#/$defs/b"}),
        },
        **_object(x={"$ref": "#/$defs/a"}),
    },
    "itself": {"$ref": "#"},
    "in a circle": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        **_object(x={"$ref": "#/$defs/a"}),
    },
    "large counts": _object(
        x={"type": "array", "minItems": 3, "maxItems": 10**9}, y={"type": "string", "maxLength": 10**12}
    ),
    "many counted members": {**_object(**{f"p{i}": {} for i in range(200)}), "maxProperties": 100},
    "a pattern that explodes": _object(x={"type": "string", "pattern": "^((a+)+)+$", "maxLength": 5000}),
    "half characters": {**_object(x={"enum": ["\ud83d", "b"]}), "required": ["\udc00", "x"]},
    "numbers beyond all": _object(x={"type": "number", "minimum": 1e400}, y={"enum": [1e999, 1]}),
}
"""Of tools' arguments; they are read and written by us."""


def _deep(levels: int, wrap: Any) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = wrap(schema)
    return schema


def _chain(length: int) -> Any:
    """Definitions of which each refers twice to the next."""
    links = {
        f"d{i}": {"type": "object", "properties": {key: {"$ref": f"#/$defs/d{i + 1}"} for key in "ab"}}
        for i in range(length)
    }
    return {"$defs": {**links, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def _either(options: int, members: int) -> Any:
    return {
        "anyOf": [
            {"type": "object", "properties": {f"p{i}_{j}": {"type": "string"} for j in range(members)}}
            for i in range(options)
        ]
    }


ANSWERS: dict[str, Any] = {
    "arrays in arrays": _deep(150, lambda schema: {"type": "array", "items": schema}),
    "objects in objects": _deep(60, lambda schema: {"type": "object", "properties": {"a": schema}}),
    "unions in unions": _deep(90, lambda schema: {"anyOf": [schema, {"type": "null"}]}),
    "a chain of references": _chain(1200),
    "products of unions": {
        "allOf": [{"anyOf": [{"properties": {f"{key}{i}": {"type": "string"}}} for key in "pq"]} for i in range(25)]
    },
    "many values": {"enum": [f"value {i} {i * i * 7919}" for i in range(5000)]},
    "many members": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(3900)}},
    "many numbers": {
        "type": "object",
        "properties": {f"p{i}": {"type": "integer", "minimum": i, "maximum": i * 77 + 9} for i in range(1900)},
    },
    "many objects": _either(100, 40),
    "many patterns": {"anyOf": [{"type": "string", "pattern": f"(a|b)*{i}(a|b){{50}}"} for i in range(900)]},
    "repeated repetition": {"type": "string", "pattern": "((a{1,100}){1,100}){1,100}"},
    "exponential": {"type": "string", "pattern": "(.*a){30}b[a-z]*c[a-z]{500}"},
    "a long string": {"type": "string", "minLength": 10**6, "maxLength": 10**7},
    "a long array": {"type": "array", "items": {"type": "integer"}, "minItems": 10**7, "maxItems": 10**7 + 5},
    "an endless reference": {"$defs": {"n": {"$ref": "#/$defs/n"}}, "$ref": "#/$defs/n"},
}
"""As they are, for the compiler."""
