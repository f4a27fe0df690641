"""Arrays and objects, from the keywords of a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from node.serving.grammar import patterns
from node.serving.grammar.merge import Keywords, both
from node.serving.grammar.nodes import (
    NEVER,
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
# So many items further than those that differ, something contained may stand.
_PLACES = 3


def read_array(schema: Keywords, where: str, warn: Warn, read: Read, *, narrow: bool) -> Node:
    """The array that the keywords allow; with `narrow`, what it has to contain comes at one of its first places."""
    low, high = count(schema, "minItems", where, warn) or 0, count(schema, "maxItems", where, warn)
    prefix = schema["prefixItems"] if isinstance(schema.get("prefixItems"), list) else []
    items = schema.get("items", schema.get("unevaluatedItems", True))
    if schema.get("uniqueItems") is True and (high is None or high > 1):
        warn(where, "uniqueItems cannot be kept")

    def array(first: list[Any], least: int) -> Array:
        nodes = tuple(read(one, f"{where}[{index}]") for index, one in enumerate(first))
        return Array(nodes, read(items, f"{where}[]"), least, high)

    wanted, need = schema.get("contains"), count(schema, "minContains", where, warn)
    need = 1 if need is None else need
    if wanted is None or (need == 0 and "maxContains" not in schema):
        return array(prefix, low)
    ways: list[Node] = []
    if narrow and isinstance(wanted, (dict, bool)) and "maxContains" not in schema:
        for at in range(min(len(prefix), _PLACES) + _PLACES if need <= _PLACES else 0):
            if high is None or at + need <= high:
                first = [*prefix, *[items] * (at + need - len(prefix))]
                first[at : at + need] = [both(one, wanted) for one in first[at : at + need]]
                ways.append(array(first, max(low, at + need)))
    if not ways:
        warn(where, "contains cannot be kept")
        return array(prefix, low)
    return union(ways)


def read_object(schema: Keywords, where: str, warn: Warn, read: Read, *, narrow: bool) -> Node:
    """The object that the keywords allow. One that lists properties and says nothing of others has no others.

    With `narrow` there is none where a property is required and may not be there, and what a pattern says that cannot
    be checked holds of every name that may match it.
    """
    properties = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
    required = schema["required"] if isinstance(schema.get("required"), list) else []
    named = _names(schema, where, warn, read)
    by_pattern, unclear = _by_pattern(schema, where, warn, narrow)
    others = _others(schema, where, read, named, by_pattern, list(unclear.values()))
    members = []

    def member(name: str) -> Node:
        """What the property is, by all that is said of it."""
        if not fits(name, named, {}):
            return NEVER
        said = [also for pattern, also in by_pattern.items() if matches(pattern, name)]
        listed = properties.get(name, True if said else schema.get("additionalProperties", True))
        for also in (*said, *(also for pattern, also in unclear.items() if _may_match(pattern, name))):
            listed = both(listed, also)
        return read(listed, f"{where}.{name}".lstrip("."))

    for name in properties:
        if can_be_written(name):
            members.append(Member(name, member(name), name in required))
        else:
            warn(where, f"no text can hold the name {name!r}")
    for name in required:
        if isinstance(name, str) and name not in properties and can_be_written(name):
            # Where the schema only forgot to say that there may be others, this one may be anything.
            node = member(name)
            if not isinstance(node, Never):
                members.append(Member(name, node, True))
            elif narrow:
                return NEVER
            else:
                warn(where, f"the property {name!r} is required and yet may not be there")
    return _counted(Object(tuple(members), others), schema, where, warn, narrow)


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


def _by_pattern(schema: Keywords, where: str, warn: Warn, narrow: bool) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What is said of properties by a pattern of their names; apart, by patterns that the lexer cannot check."""
    found: dict[str, Any] = {}
    unclear: dict[str, Any] = {}
    given = schema.get("patternProperties")
    for pattern, one in given.items() if isinstance(given, dict) else ():
        try:
            found[patterns.search(pattern)] = one
        except patterns.PatternError as error:
            if narrow:
                unclear[pattern] = one
            else:
                warn(where, f"patternProperties cannot be kept: {error}")
    return found, unclear


def _may_match(pattern: str, name: str) -> bool:
    """Whether a pattern that only a real engine can read may be found in a name."""
    if len(name) > _LONGEST_TRIED or len(pattern) > _LONGEST_TRIED or _SLOW.search(pattern):
        return True
    try:
        return re.search(pattern, name, re.ASCII) is not None
    except (re.error, OverflowError, RecursionError):
        return True


# Python tries all ways: with more than two repetitions, or with one of a group, that takes no bounded time.
_SLOW = re.compile(r"\)[*+{?]|(?:[*+{].*){3}", re.DOTALL)
_LONGEST_TRIED = 48


def _others(
    schema: Keywords, where: str, read: Read, names: Text, by_pattern: Mapping[str, Any], unclear: Sequence[Any]
) -> tuple[Others, ...]:
    """What properties that are not listed may be. A name that fits several patterns is nobody's."""
    # Of any name it may be said.
    also: Any = True
    for one in unclear:
        also = both(also, one)
    found = []
    for pattern, one in by_pattern.items():
        unless = tuple(other for other in by_pattern if other != pattern)
        kind = Text(names.minimum, names.maximum, (*names.patterns, pattern), unless, names.where)
        found.append(Others(kind, read(both(one, also), f"{where}.*")))
    closed = "properties" in schema or by_pattern or unclear or schema.get("unevaluatedProperties") is False
    rest = Text(names.minimum, names.maximum, names.patterns, tuple(by_pattern), names.where)
    found.append(Others(rest, read(both(schema.get("additionalProperties", not closed), also), f"{where}.*")))
    return tuple(one for one in found if not isinstance(one.node, Never))


def _counted(found: Object, schema: Keywords, where: str, warn: Warn, narrow: bool) -> Node:
    """The object with as many members as the schema says."""
    low, high = count(schema, "minProperties", where, warn) or 0, count(schema, "maxProperties", where, warn)
    required = sum(member.required for member in found.members)
    if low > required + 1 and found.others and narrow and low <= _possible(found):
        # Those that are listed are enough, and are there once at most.
        found = replace(found, others=())
    if low > required + 1 and found.others:
        # The same name twice would count twice.
        warn(where, "minProperties cannot be kept")
        low = required + 1
    if max(low, high or 0) * len(found.members) > _COUNTS:
        warn(where, "minProperties and maxProperties cannot be kept")
        return found
    return Object(found.members, found.others, low, high)


def _possible(found: Object) -> int:
    return sum(not isinstance(member.node, Never) for member in found.members)
