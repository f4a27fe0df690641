"""Strings and numbers: what the lexer checks of a single value."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from node.serving.grammar import patterns
from node.serving.grammar.lark import Lark, regex
from node.serving.grammar.nodes import Number, Text

Leaf = TypeVar("Leaf", Text, Number)

ALONE: Final = "start: ALONE\nALONE: "
"""Begins a grammar that is nothing but a terminal, which is asked for to learn whether anything fits the terminal."""


class Leaves:
    """Writes strings and numbers, and drops what the lexer refuses, a keyword at a time.

    Args:
        lark: where the rules go.
        validate: says what is wrong with a grammar's text, or "".
        label: whose schema it is, for the warnings.
        careful: whether to try them all, not only those in which keywords may exclude each other: a grammar in which
            a string can never end is not refused.
    """

    def __init__(self, lark: Lark, validate: Callable[[str], str], label: str, *, careful: bool = True) -> None:
        self._lark = lark
        self._validate = validate
        self._label = label
        self._careful = careful
        self._kept: dict[object, Any] = {}
        self.warnings: list[str] = []

    def warn(self, where: str, what: str) -> None:
        """Say what was left out, and where."""
        self.warnings.append(f"{self._label}: {where or 'the schema'}: {what}")

    def text(self, node: Text, *also: str) -> str:
        """A terminal's expression for a string as it is, which fits the expressions of `also`, too."""
        node = self.kept(node)
        parts = [*also, *map(regex, node.patterns)]
        if node.minimum or node.maximum is not None:
            parts.append(regex(patterns.sized("(?s:.)", node.minimum, node.maximum)))
        return "(" + " & ".join(parts or [regex(patterns.ANY)]) + ")"

    def text_json(self, node: Text, also: tuple[str, ...] = ()) -> str:
        """A rule for a JSON string whose text matches the patterns of `also`, too."""
        if self._careful:
            return self._lark.json(_text_schema(self._kept_beside(node, also)))
        node = self.kept(node)
        return self._lark.json(_text_schema(replace(node, patterns=(*node.patterns, *also))))

    def number(self, node: Number) -> str:
        """A rule for a number in digits."""
        return self._lark.json(_number_schema(self.kept(node)))

    def kept(self, node: Leaf) -> Leaf:
        """The string or the number as far as the lexer can check it."""
        if not self._careful and not _may_be_empty(node):
            return node
        return self._kept_beside(node, ())

    def _kept_beside(self, node: Leaf, also: tuple[str, ...]) -> Leaf:
        """What the lexer can check of it beside the patterns of `also`, which the string then has, too."""
        key = (node, node.where, also)
        if key not in self._kept:
            self._kept[key] = self._checked_text(node, also) if isinstance(node, Text) else self._checked_number(node)
        found: Leaf = self._kept[key]
        return found

    def possible(self, node: Text) -> bool:
        """Whether there is such a string."""
        if node.unless:
            return not self._validate(f"{ALONE}{' & '.join([self.text(node), *excluded(node)])}\n")
        return not _may_be_empty(node) or not self._validate(f"start: %json {json.dumps(_text_schema(node))}\n")

    def _checked_text(self, node: Text, also: tuple[str, ...]) -> Text:
        kept = Text(patterns=also, unless=node.unless, where=node.where)
        for pattern in node.patterns:
            kept = self._widened(kept, "pattern or format", patterns=(*kept.patterns, pattern))
        kept = self._widened(kept, "minLength", minimum=node.minimum)
        return self._widened(kept, "maxLength", maximum=node.maximum)

    def _checked_number(self, node: Number) -> Number:
        kept = Number(node.integer, where=node.where)
        kept = self._widened(kept, "minimum", low=node.low, low_open=node.low_open)
        kept = self._widened(kept, "maximum", high=node.high, high_open=node.high_open)
        return self._widened(kept, "multipleOf", multiple=node.multiple)

    def _widened(self, kept: Leaf, keyword: str, **changes: Any) -> Leaf:
        """The leaf with one keyword more, or without it where the lexer refuses it."""
        more = replace(kept, **changes)
        if more == kept:
            return kept
        schema = _text_schema(more) if isinstance(more, Text) else _number_schema(more)
        if self._validate(f"start: %json {json.dumps(schema)}\n"):
            self.warn(kept.where, f"{keyword} cannot be kept")
            return kept
        return more


def excluded(node: Text) -> list[str]:
    """Expressions for what matches none of the patterns that a string must not match."""
    return [f"~{regex(pattern)}" for pattern in node.unless]


def _text_schema(node: Text) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if node.minimum:
        schema["minLength"] = node.minimum
    if node.maximum is not None:
        schema["maxLength"] = node.maximum
    found = [{"pattern": f"^(?:{pattern})$"} for pattern in node.patterns]
    if len(found) == 1:
        schema |= found[0]
    elif found:
        schema["allOf"] = found
    return schema


def _number_schema(node: Number) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer" if node.integer else "number"}
    if node.low is not None:
        schema["exclusiveMinimum" if node.low_open else "minimum"] = node.low
    if node.high is not None:
        schema["exclusiveMaximum" if node.high_open else "maximum"] = node.high
    if node.multiple is not None:
        schema["multipleOf"] = node.multiple
    return schema


def _may_be_empty(node: Text | Number) -> bool:
    """Whether the keywords may leave no value at all."""
    if isinstance(node, Number) or not node.patterns:
        return False
    return len(node.patterns) + bool(node.minimum) + (node.maximum is not None) > 1
