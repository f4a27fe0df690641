"""What a JSON value may be: a schema with its references, combinations and defaults worked out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, TypeAlias

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from node.serving.grammar.lark import regex


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value."""


@dataclass(frozen=True, slots=True)
class Never:
    """No value at all."""


@dataclass(frozen=True, slots=True)
class Constants:
    """One of these strings, numbers, truth values or null, each as JSON text."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A string of so many characters that matches all the patterns (see `patterns`) as a whole.

    `unless`: patterns of which it matches none; only names have them.
    """

    minimum: int = 0
    maximum: int | None = None
    patterns: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Number:
    """A number; `low_open` and `high_open` say that the bound itself is left out."""

    integer: bool = False
    low: int | float | None = None
    high: int | float | None = None
    low_open: bool = False
    high_open: bool = False
    multiple: int | float | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Array:
    """Items: those of `prefix` first, then `rest`, `minimum` to `maximum` of them all together."""

    prefix: tuple[Node, ...] = ()
    rest: Node = field(default_factory=Anything)
    minimum: int = 0
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A property of an object. One that is `Never` may not be there."""

    name: str
    node: Node
    required: bool


@dataclass(frozen=True, slots=True)
class Others:
    """Properties that are not listed: what their names and their values are."""

    names: Text
    node: Node


@dataclass(frozen=True, slots=True)
class Object:
    """Members in this order, then any others; so many in all."""

    members: tuple[Member, ...] = ()
    others: tuple[Others, ...] = ()
    minimum: int = 0
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Union:
    """What any of the options may be."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the definition of this name may be."""

    name: str


Node: TypeAlias = Anything | Never | Constants | Text | Number | Array | Object | Union | Reference

_written = json.JSONEncoder(ensure_ascii=False).encode
ANYTHING, NEVER = Anything(), Never()
NOTHING_BUT_NULL = Constants(("null",))
TRUTH = Constants(("true", "false"))
# What "any value" is made of; the containers hold any value again.
ANY_OBJECT = Object(others=(Others(Text(), ANYTHING),))
EVERYTHING = Union((Text(), Number(), TRUTH, NOTHING_BUT_NULL, Array(), ANY_OBJECT))


@dataclass(frozen=True, slots=True)
class Schema:
    """A root and the definitions that its references name. `warnings`: what had to be left out of the original."""

    root: Node
    definitions: Mapping[str, Node]
    warnings: tuple[str, ...] = ()

    def options(self, node: Node) -> list[Node]:
        """The node's alternatives, unions and references resolved."""
        found: list[Node] = []
        waiting, seen = [node], set[str]()
        while waiting:
            one = waiting.pop(0)
            if isinstance(one, Union):
                waiting[:0] = one.options
            elif isinstance(one, Reference):
                if one.name not in seen:
                    seen.add(one.name)
                    waiting.insert(0, self.definitions[one.name])
            elif not isinstance(one, Never) and one not in found:
                found.append(one)
        return found


def union(options: list[Node]) -> Node:
    """Any of the options."""
    flat: list[Node] = []
    for option in options:
        for one in option.options if isinstance(option, Union) else (option,):
            if isinstance(one, Anything):
                return ANYTHING
            if isinstance(one, Constants) and flat and isinstance(flat[-1], Constants):
                flat[-1] = Constants(tuple(dict.fromkeys((*flat[-1].values, *one.values))))
            elif not isinstance(one, Never) and one not in flat:
                flat.append(one)
    return NEVER if not flat else flat[0] if len(flat) == 1 else Union(tuple(flat))


def constant(value: Any) -> Node:
    """This value and no other."""
    if isinstance(value, dict):
        return Object(tuple(Member(name, constant(one), True) for name, one in value.items()))
    if isinstance(value, list):
        return Array(tuple(constant(one) for one in value), NEVER, len(value), len(value))
    return Constants((_written(value),))


def kind(value: Any) -> str:
    """The JSON type of a value; `number` for integers, too."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in JSON: 1 is 1.0, but not true."""
    if kind(one) != kind(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def fits(value: Any, node: Node, definitions: Mapping[str, Node]) -> bool:
    """Whether the node allows a value."""
    if isinstance(node, Anything):
        return True
    if isinstance(node, Union):
        return any(fits(value, option, definitions) for option in node.options)
    if isinstance(node, Reference):
        # One that is still being read is not known yet.
        return node.name not in definitions or fits(value, definitions[node.name], definitions)
    if isinstance(node, Constants):
        return any(same(json.loads(one), value) for one in node.values)
    what = kind(value)
    if isinstance(node, Text):
        return (
            what == "string"
            and node.minimum <= len(value) <= (len(value) if node.maximum is None else node.maximum)
            and all(matches(pattern, value) for pattern in node.patterns)
            and not any(matches(pattern, value) for pattern in node.unless)
        )
    if isinstance(node, Number):
        return what == "number" and _within(value, node)
    if isinstance(node, Array):
        return (
            what == "array"
            and node.minimum <= len(value) <= (len(value) if node.maximum is None else node.maximum)
            and all(
                fits(one, node.prefix[index] if index < len(node.prefix) else node.rest, definitions)
                for index, one in enumerate(value)
            )
        )
    if isinstance(node, Object) and what == "object":
        members = {member.name: member for member in node.members}
        return (
            all(member.name in value for member in node.members if member.required)
            and all(
                fits(one, members[name].node, definitions)
                if name in members
                else any(
                    fits(name, other.names, definitions) and fits(one, other.node, definitions) for other in node.others
                )
                for name, one in value.items()
            )
            and node.minimum <= len(value) <= (len(value) if node.maximum is None else node.maximum)
        )
    return False


def matches(pattern: str, text: str) -> bool:
    """Whether one of `patterns` fits a text, in linear time; one that the lexer refuses is taken to."""
    matcher = _automaton(pattern)
    if matcher is None:
        return True
    data = list(_MARK + text.encode("utf-8", "surrogatepass"))
    matcher = matcher.deep_copy()
    # A lexeme that nothing can follow has ended.
    whole = matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()
    return bool(whole or matcher.is_error())


# No lexeme is empty.
_MARK = b"x"


@lru_cache(maxsize=256)
def _automaton(pattern: str) -> LLMatcher | None:
    grammar = f'start: T\nT: "{_MARK.decode()}" {regex(pattern)}\n'
    matcher = LLMatcher(_bytes(), grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
    return None if matcher.is_error() else matcher


@cache
def _bytes() -> LLTokenizer:
    return LLTokenizer("byte")


def _within(value: int | float, node: Number) -> bool:
    if node.integer and isinstance(value, float) and not value.is_integer():
        return False
    if node.low is not None and (value < node.low or (node.low_open and value == node.low)):
        return False
    if node.high is not None and (value > node.high or (node.high_open and value == node.high)):
        return False
    if node.multiple is None:
        return True
    ratio = value / node.multiple
    return math.isfinite(ratio) and abs(ratio - round(ratio)) < 1e-9
