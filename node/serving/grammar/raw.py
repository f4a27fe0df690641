"""Writers from schema to grammar for values that stand as they are between tags: parameters and nested elements.

The reader of such text (`parsers.transducers.raw_text`) finds out from the schema what type a value has, by trying
null, numbers, truth values and JSON before it takes it for a string. So what is written as a string must not read as
something else that the schema does not allow. All that is no string is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from node.serving.grammar import patterns
from node.serving.grammar.lark import Lark, join, literal, regex
from node.serving.grammar.leaves import Leaves
from node.serving.grammar.names import UNWRITTEN
from node.serving.grammar.nodes import (
    ANY_OBJECT,
    ANYTHING,
    Anything,
    Array,
    Constants,
    Node,
    Number,
    Object,
    Schema,
    Text,
    fits,
)
from node.serving.grammar.values import JSON, Values
from parsers.quoting import quote
from parsers.schema import scalar

_SPACES = r"\s\x{1c}-\x{1f}"
_SPACE = f"[{_SPACES}]*"
_BRACKETS = {"object": "{", "array": "["}
_DIGITS = r"-?(?:0|[1-9][0-9]*)"
_FRACTION = r"(?:\.[0-9]+)?(?:[eE][+\-]?[0-9]+)?"


class Leaf:
    """Writes a value as raw text up to what closes it.

    Args:
        without: what keeps values apart from tags; see `patterns.without`.
    """

    def __init__(self, lark: Lark, schema: Schema, leaves: Leaves, without: tuple[str, ...]) -> None:
        self._lark = lark
        self._schema = schema
        self._leaves = leaves
        self._without = tuple(map(regex, without))
        self._values = Values(lark, schema, JSON, leaves, without)

    def ways(self, node: Node, types: frozenset[str], close: str) -> list[str]:
        """Expressions for the value and its end, of which one must fit; none where the format cannot write it."""
        text, closing = self._lark.split(close)
        options = self._schema.options(node)
        # What fits none of the types is read as a string, too.
        strings = not types or "string" in types or ANYTHING in options
        open_text = strings and any(isinstance(one, (Text, Anything)) for one in options)
        lexemes: list[str] = []
        found: list[str] = []
        for one in options:
            if isinstance(one, Constants):
                for value in one.values:
                    bare = self._bare(value, types)
                    if bare is not None and open_text:
                        lexemes.append(literal(bare) or '""')
                    elif bare is not None:
                        found.append(join(self._lark.text(bare + text), closing))
            elif isinstance(one, (Text, Anything)):
                if strings:
                    string = one if isinstance(one, Text) else Text()
                    lexemes.append(self._leaves.text(string, *self._without, *self._ladder(string, options, types)))
            elif isinstance(one, Number):
                if not types & {"integer", "number"}:
                    continue
                if not open_text:
                    found.append(join(self._leaves.number(one), literal(text), closing))
                elif (digits := self._digits(one)) is not None:
                    lexemes.append(regex(digits))
            elif ("object" if isinstance(one, Object) else "array") in types:
                found.append(join(self._values.value(one), literal(text), closing))
        if lexemes:
            body = "(" + " | ".join(dict.fromkeys(lexemes)) + ")"
            found.append(join(self._lark.terminal(join(body, literal(text))), closing))
        return found

    def json(self, node: Node, close: str) -> str:
        """The value as JSON, and its end."""
        return join(self._values.value(node), self._lark.text(close))

    def _bare(self, value: str, types: frozenset[str]) -> str | None:
        """A constant as raw text; None if it would be read as something else."""
        text = json.loads(value) if value.startswith('"') else value
        return text if scalar(text, types) == (quote(text) if value.startswith('"') else value) else None

    def _digits(self, node: Number) -> str | None:
        """A regular expression for the number, for where one lexeme must tell it from text."""
        node = self._leaves.kept(node)
        if node.multiple is None and node.integer:
            return patterns.integers(_whole(node.low), _whole(node.high))
        if node.multiple is None and node.low is None and node.high is None:
            return _DIGITS + _FRACTION
        self._leaves.warn(node.where, UNWRITTEN.format("a number with bounds beside strings"))
        return None

    def _ladder(self, node: Text, options: Sequence[Node], types: frozenset[str]) -> list[str]:
        """What a string must fit, too, lest it be read as another type in a way that the schema does not allow."""
        found: list[str] = []
        if ANYTHING in options:
            # All is well but what is read as a container whatever it holds.
            begin = "" if "string" in types else "".join(char for name, char in _BRACKETS.items() if name in types)
            return [_not_from(begin)] if begin else found

        def allowed(value: object) -> bool:
            return any(fits(value, one, self._schema.definitions) for one in options)

        if "null" in types and not allowed(None):
            found.append("~" + regex(f"{_SPACE}(?i:null|none){_SPACE}"))
        if "boolean" in types and not (allowed(True) and allowed(False)):
            found.append("~" + regex(f"{_SPACE}(?i:true|false){_SPACE}"))
        numbers = [one for one in options if isinstance(one, Number) and one == Number(one.integer)]
        if types & {"integer", "number"} and not any(not one.integer or "number" not in types for one in numbers):
            fraction = _FRACTION if "number" in types else r"(?:\.0+)?"
            found.append("~" + regex(f"{_SPACE}[+\\-]?[0-9]+{fraction}{_SPACE}"))
        free = {"object": ANY_OBJECT, "array": Array()}
        begin = "".join(char for name, char in _BRACKETS.items() if name in types and free[name] not in options)
        if begin:
            found.append(_not_from(begin))
        return found


def _not_from(brackets: str) -> str:
    """Text that begins with none of the brackets."""
    inside = "".join(f"\\x{{{ord(char):x}}}" for char in brackets)
    return regex(f"{_SPACE}(?:[^{_SPACES}{inside}]{patterns.ANY})?")


def _whole(bound: int | float | None) -> int | None:
    return None if bound is None else int(bound)
