"""What a schema does not allow, said in the words of schemas: what ``not``, ``if`` and ``oneOf`` need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from node.serving.grammar import patterns
from node.serving.grammar.nodes import kind

_TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
# Numbers that are no integers have no name of their own.
_KINDS = {"integer": "number", "number": "number"}
_CONSTANTS = 32
# The keyword that holds where another does not, and the step between their counts.
_OPPOSITE_BOUNDS = {
    "minimum": "exclusiveMaximum",
    "maximum": "exclusiveMinimum",
    "exclusiveMinimum": "maximum",
    "exclusiveMaximum": "minimum",
}
_OPPOSITE_COUNTS = {
    f"{least}{what}": (f"{most}{what}", step, of)
    for what, of in (("Length", "string"), ("Items", "array"), ("Properties", "object"))
    for least, most, step in (("min", "max", -1), ("max", "min", 1))
}


def negations(
    schema: Any,
    types_of: Callable[[str], frozenset[str]],
    resolve: Callable[[str], Any],
    *,
    closed: bool,
    deep: bool = True,
) -> list[dict[str, Any]]:
    """Schemas none of which a value fits that fits `schema`.

    What has no other side in the words of schemas (a pattern, a step) is left out, so that together they may say less
    than "not".

    Args:
        types_of: the types that a name stands for; none for one that is not known.
        resolve: the schema that a reference leads to.
        closed: whether the values' own properties are listed: then a property that may not be there opens nothing.
        deep: whether a property that is there with another value is one of the ways.
    """
    if schema is False:
        return [{}]
    if not isinstance(schema, dict):
        return []
    around: dict[str, Any] = {"type": "object"} if closed else {"type": "object", "additionalProperties": True}
    found: list[dict[str, Any]] = []
    for key, value in schema.items():
        values = value if isinstance(value, list) and key != "const" else [value]
        if key == "type":
            found += _other_types(values, types_of, schema.get("nullable") is True)
        elif key in ("enum", "const"):
            found += _other_values([*values, None] if schema.get("nullable") is True else values)
        elif key in _OPPOSITE_BOUNDS and _is_number(value):
            found.append({"type": "number", _OPPOSITE_BOUNDS[key]: value})
        elif key in _OPPOSITE_COUNTS and isinstance(value, int) and not isinstance(value, bool):
            opposite, step, of = _OPPOSITE_COUNTS[key]
            found += [{"type": of, opposite: value + step}] if value + step >= 0 else []
        elif key == "required":
            found += [{**around, "properties": {name: False}} for name in values if isinstance(name, str)]
        elif key == "properties" and deep and isinstance(value, dict):
            found += [{**around, "required": [name], "properties": {name: {"not": one}}} for name, one in value.items()]
        elif key in ("anyOf", "oneOf") and isinstance(value, list):
            found.append({"allOf": [{"not": one} for one in value]})
        elif key == "allOf" and isinstance(value, list):
            found += [{"not": one} for one in value]
        elif key == "$ref" and isinstance(value, str):
            found.append({"not": resolve(value)})
        elif key == "not" and isinstance(value, dict):
            found.append(value)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _other_types(
    names: Sequence[Any], types_of: Callable[[str], frozenset[str]], nullable: bool
) -> list[dict[str, Any]]:
    taken: set[str] = {"null"} if nullable else set()
    for name in names:
        known = types_of(name) if isinstance(name, str) else frozenset[str]()
        if not known:
            return []
        taken |= known
    return _types({_KINDS.get(one, one) for one in taken})


def _types(taken: set[str]) -> list[dict[str, Any]]:
    rest = [one for one in _TYPES if one != "integer" and one not in taken]
    return [{"type": rest}] if rest else []


def _other_values(values: Sequence[Any]) -> list[dict[str, Any]]:
    found = _types({kind(one) for one in values})
    if len(values) > _CONSTANTS:
        return found
    texts = [one for one in values if isinstance(one, str)]
    if texts:
        found.append({"type": "string", "pattern": patterns.unlike(texts)})
    truths = {one for one in values if isinstance(one, bool)}
    if len(truths) == 1:
        found.append({"enum": [not truths.pop()]})
    numbers = sorted({one for one in values if _is_number(one)})
    for low, high in zip((None, *numbers), (*numbers, None), strict=True) if numbers else ():
        bounds = {"exclusiveMinimum": low, "exclusiveMaximum": high}
        found.append({"type": "number", **{name: bound for name, bound in bounds.items() if bound is not None}})
    return found
