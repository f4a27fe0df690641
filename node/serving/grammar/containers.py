"""Arrays and objects, from the keywords of a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from node.serving.grammar import patterns
from node.serving.grammar.merge import Keywords, both
from node.serving.grammar.nodes import (
    ANYTHING,
    Array,
    Constants,
    Member,
    Never,
    Node,
    Object,
    Others,
    Text,
    fits,
    matches,
    union,
)
from node.serving.grammar.scalars import Warn, can_be_written, count

Read = Callable[[Any, str], Node]
"""Reads a schema inside, at a place."""

# Counting members takes a rule for each of them at each count.
_COUNTS = 600


def read_array(schema: Keywords, where: str, warn: Warn, read: Read) -> Node:
    """The array that the keywords allow."""
    low, high = count(schema, "minItems", where, warn), count(schema, "maxItems", where, warn)
    prefix = schema["prefixItems"] if isinstance(schema.get("prefixItems"), list) else []
    rest = read(schema.get("items", schema.get("unevaluatedItems", True)), f"{where}[]")
    nodes = tuple(read(one, f"{where}[{index}]") for index, one in enumerate(prefix))
    if schema.get("uniqueItems") is True and (high is None or high > 1):
        warn(where, "uniqueItems cannot be kept")
    return Array(nodes, rest, low or 0, high)


def read_object(schema: Keywords, where: str, warn: Warn, read: Read) -> Node:
    """The object that the keywords allow. One that lists properties and says nothing of others has no others."""
    properties = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
    required = schema["required"] if isinstance(schema.get("required"), list) else []
    named = _names(schema, where, warn, read)
    by_pattern = _by_pattern(schema, where, warn)
    others = _others(schema, where, warn, read, named, by_pattern)
    members = []
    for name, one in properties.items():
        if not can_be_written(name):
            warn(where, f"no text can hold the name {name!r}")
            continue
        for pattern, also in by_pattern.items():
            one = both(one, also) if matches(pattern, name) else one
        node = read(one if fits(name, named, {}) else False, f"{where}.{name}".lstrip("."))
        members.append(Member(name, node, name in required))
    for name in required:
        if isinstance(name, str) and name not in properties and can_be_written(name):
            # Where the schema only forgot to say that there may be others, this one may be anything.
            node = union([one.node for one in others if fits(name, one.names, {})])
            if isinstance(node, Never) and schema.get("additionalProperties") is False:
                warn(where, f"the property {name!r} is required and yet may not be there")
            else:
                members.append(Member(name, ANYTHING if isinstance(node, Never) else node, True))
    return _counted(Object(tuple(members), others), schema, where, warn)


def _names(schema: Keywords, where: str, warn: Warn, read: Read) -> Text:
    """What all names must be."""
    if schema.get("propertyNames", True) is True:
        return Text()
    names = read(both(schema["propertyNames"], {"type": "string"}), f"{where}.propertyNames")
    if isinstance(names, Text):
        return names
    if isinstance(names, Constants):
        return Text(patterns=(patterns.either(json.loads(value) for value in names.values),))
    warn(where, "propertyNames cannot be kept")
    return Text()


def _by_pattern(schema: Keywords, where: str, warn: Warn) -> Mapping[str, Any]:
    """What is said of properties by a pattern of their names."""
    found: dict[str, Any] = {}
    given = schema.get("patternProperties")
    for pattern, one in given.items() if isinstance(given, dict) else ():
        try:
            found[patterns.search(pattern)] = one
        except patterns.PatternError as error:
            warn(where, f"patternProperties cannot be kept: {error}")
    return found


def _others(
    schema: Keywords, where: str, warn: Warn, read: Read, names: Text, by_pattern: Mapping[str, Any]
) -> tuple[Others, ...]:
    """What properties that are not listed may be. A name that fits several patterns is nobody's."""
    found = []
    for pattern, one in by_pattern.items():
        unless = tuple(other for other in by_pattern if other != pattern)
        kind = Text(names.minimum, names.maximum, (*names.patterns, pattern), unless, names.where)
        found.append(Others(kind, read(one, f"{where}.*")))
    closed = "properties" in schema or by_pattern or schema.get("unevaluatedProperties") is False
    rest = Text(names.minimum, names.maximum, names.patterns, tuple(by_pattern), names.where)
    found.append(Others(rest, read(schema.get("additionalProperties", not closed), f"{where}.*")))
    return tuple(one for one in found if not isinstance(one.node, Never))


def _counted(found: Object, schema: Keywords, where: str, warn: Warn) -> Node:
    """The object with as many members as the schema says."""
    low, high = count(schema, "minProperties", where, warn) or 0, count(schema, "maxProperties", where, warn)
    required = sum(member.required for member in found.members)
    if low > required + 1 and found.others:
        # The same name twice would count twice.
        warn(where, "minProperties cannot be kept")
        low = required + 1
    if max(low, high or 0) * len(found.members) > _COUNTS:
        warn(where, "minProperties and maxProperties cannot be kept")
        return found
    return Object(found.members, found.others, low, high)
