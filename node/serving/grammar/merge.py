"""Two JSON schemas as one that says what both say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from node.serving.grammar.nodes import matches, same
from node.serving.grammar.patterns import PatternError, search

Keywords = dict[str, Any]

# What says of one schema that others hold, too.
COMBINED = (
    *("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
    *("dependentRequired", "dependentSchemas", "dependencies"),
)
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
# Lists that grow: every pattern and every format must fit.
_ALL = ("patterns", "formats")


def plain(schema: Mapping[str, Any]) -> Keywords:
    """The keywords of one schema, its combinations left out, in the spelling of the newest draft."""
    found = {key: value for key, value in schema.items() if key not in COMBINED}
    if "const" in found:
        values = [found.pop("const")]
        found["enum"] = [one for one in _list(found.get("enum", values)) if any(same(one, value) for value in values)]
    if isinstance(found.get("items"), list):
        found["prefixItems"] = found.pop("items")
        if "additionalItems" in found:
            found["items"] = found.pop("additionalItems")
    for bound in ("Minimum", "Maximum"):
        # In the oldest draft these say whether the bound itself is left out.
        strict = found.get(f"exclusive{bound}")
        if isinstance(strict, bool):
            del found[f"exclusive{bound}"]
            if strict and bound.lower() in found:
                found[f"exclusive{bound}"] = found.pop(bound.lower())
    if "type" in found and found.pop("nullable", False) is True:
        found["type"] = [*_list(found["type"]), "null"]
    for key, keys in (("pattern", "patterns"), ("format", "formats")):
        if key in found:
            found[keys] = [found.pop(key)]
    return found


def merge(one: Keywords, other: Keywords) -> Keywords | None:
    """What holds where both hold; None where nothing can."""
    merged = {**other, **one}
    for key in one.keys() & other.keys():
        merged[key] = _merged(key, one[key], other[key])
        if merged[key] is None:
            return None
    if ("nullable" in one) != ("nullable" in other) and "type" in merged:
        # The side that has a type says by it whether null is among them.
        del merged["nullable"]
    _merge_items(one, other, merged)
    _merge_properties(one, other, merged)
    return merged


def both(one: Any, other: Any) -> Any:
    """A schema that stands for two."""
    if one is True or other is True:
        return other if one is True else one
    parts: list[Any] = []
    for schema in (one, other):
        combined = isinstance(schema, dict) and schema.keys() == {"allOf"} and isinstance(schema["allOf"], list)
        for part in schema["allOf"] if combined else [schema]:
            if part is not True and part != {} and part not in parts:
                parts.append(part)
    if any(part is False for part in parts):
        return False
    # In one order, so that what contains itself comes back to where it was.
    if len(parts) > 1:
        parts.sort(key=lambda part: json.dumps(part, sort_keys=True, default=str))
    return True if not parts else parts[0] if len(parts) == 1 else {"allOf": parts}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _merged(key: str, one: Any, other: Any) -> Any:
    if key == "type":
        types = [narrow for name in _list(one) for narrow in [_narrower(name, _list(other))] if narrow]
        return types or None
    if key == "enum":
        return [value for value in _list(one) if any(same(value, also) for also in _list(other))]
    if key in _LEAST or key in _MOST:
        return _bound(one, other, max if key in _LEAST else min)
    if key in _ALL:
        return [*one, *(value for value in other if value not in one)]
    if key == "required":
        return list(dict.fromkeys(str(name) for name in (*_list(one), *_list(other))))
    if key == "multipleOf" and isinstance(one, int) and isinstance(other, int) and one and other:
        return math.lcm(one, other)
    if key == "multipleOf" and one != other:
        # Of two steps that are no integers only one can be kept; the warning comes where it is read.
        return [one, other]
    if key in ("additionalProperties", "items", "propertyNames", "unevaluatedProperties"):
        return both(one, other)
    if key == "contains" and one != other:
        # Where both would have to be found; the warning comes where it is read.
        return [*_list(one), *_list(other)]
    if key == "uniqueItems":
        return bool(one or other)
    if key == "nullable":
        return bool(one and other)
    return one


def _narrower(name: Any, names: list[Any]) -> Any:
    if name in names:
        return name
    if name == "number" and "integer" in names:
        return "integer"
    return name if name == "integer" and "number" in names else None


def _bound(one: Any, other: Any, tighter: Any) -> Any:
    numbers = [value for value in (one, other) if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return tighter(numbers) if numbers else one


def _merge_items(one: Keywords, other: Keywords, merged: Keywords) -> None:
    prefixes = [_list(each.get("prefixItems", [])) for each in (one, other)]
    if not any(prefixes):
        return
    rests = [each.get("items", True) for each in (one, other)]
    merged["prefixItems"] = [
        both(*(prefix[index] if index < len(prefix) else rest for prefix, rest in zip(prefixes, rests, strict=True)))
        for index in range(max(map(len, prefixes)))
    ]


def _merge_properties(one: Keywords, other: Keywords, merged: Keywords) -> None:
    """The properties of both, each with what the other says of properties that it does not list."""
    for key in ("properties", "patternProperties"):
        sides = [each[key] if isinstance(each.get(key), dict) else {} for each in (one, other)]
        if not any(isinstance(each.get(key), dict) for each in (one, other)):
            continue
        found: Keywords = {}
        for name in dict.fromkeys((*sides[0], *sides[1])):
            schemas = [
                side[name]
                if name in side
                else _unlisted(each, name)
                if key == "properties"
                # Names of a pattern that the other does not have are among its additional ones.
                else each.get("additionalProperties", True)
                for side, each in zip(sides, (one, other), strict=True)
            ]
            found[name] = both(*schemas)
        merged[key] = found


def _unlisted(schema: Keywords, name: str) -> Any:
    """What a schema says of a property that is not among its `properties`."""
    by_pattern = schema.get("patternProperties")
    for pattern in by_pattern if isinstance(by_pattern, dict) else ():
        try:
            if matches(search(pattern), name):
                # It is applied where the schema is read.
                return True
        except PatternError:
            continue
    return schema.get("additionalProperties", True)
