"""Writers from schema to grammar for notations that quote: JSON, Python literals, Gemma's braces."""

from __future__ import annotations

import json
from dataclasses import dataclass

from node.serving.grammar import patterns
from node.serving.grammar.lark import Lark, choice, join, literal, regex
from node.serving.grammar.leaves import Leaves
from node.serving.grammar.nodes import (
    EVERYTHING,
    Anything,
    Array,
    Constants,
    Never,
    Node,
    Number,
    Object,
    Reference,
    Schema,
    Text,
    Union,
)
from node.serving.grammar.sequences import items, sequence
from parsers.quoting import quote


@dataclass(frozen=True, slots=True)
class Notation:
    """How values are written. Strings and keys are JSON's, unless `mark` stands round strings; then keys are bare."""

    comma: str = ", "
    colon: str = ": "
    true: str = "true"
    false: str = "false"
    null: str = "null"
    mark: str = ""

    def word(self, value: str) -> str:
        """A constant, given as JSON text and no string."""
        return {"true": self.true, "false": self.false, "null": self.null}.get(value, value)


JSON = Notation()
PYTHON = Notation(true="True", false="False", null="None")
# Names that stand where nothing quotes them.
_BARE_NAME = r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}"
_QUOTED_NAME = r"[^\x{22}\x{5c}\x{0}-\x{1f}\x{7f}]"


class Values:
    """Writes the rules for the values of one schema.

    Args:
        within: patterns that every JSON string must match, too: those of `patterns.without`, where the values stand
            between tags that no string may hold.
    """

    def __init__(
        self, lark: Lark, schema: Schema, notation: Notation, leaves: Leaves, within: tuple[str, ...] = ()
    ) -> None:
        self._within = within
        self._lark = lark
        self._schema = schema
        self._notation = notation
        self._leaves = leaves
        self._references: dict[str, str] = {}

    def value(self, node: Node) -> str:
        """The name of a rule for the values that the node allows."""
        if isinstance(node, Reference):
            return self._defined(node.name, self._schema.definitions[node.name])
        if isinstance(node, Anything):
            return self._defined("", EVERYTHING)
        return self._lark.rule(self._body(node))

    def _defined(self, name: str, node: Node) -> str:
        rule = self._references.get(name)
        if rule is None:
            rule = self._references[name] = self._lark.reserve()
            self._lark.define(rule, self._body(node))
        return rule

    def _body(self, node: Node) -> str:
        if isinstance(node, Union):
            return choice([self.value(option) for option in node.options])
        if isinstance(node, Constants):
            return choice([self._constant(value) for value in node.values])
        if isinstance(node, Text):
            return self.text(node)
        if isinstance(node, Number):
            return self._leaves.number(node)
        if isinstance(node, Array):
            return join('"["', self._items(node), '"]"')
        if isinstance(node, Object):
            return join('"{"', self._members(node), '"}"')
        return self.value(node)

    def _constant(self, value: str) -> str:
        mark = self._notation.mark
        if not value.startswith('"'):
            return literal(self._notation.word(value))
        return self._lark.text(f"{mark}{json.loads(value)}{mark}") if mark else literal(value)

    def text(self, node: Text) -> str:
        """A string with what stands round it."""
        mark = self._notation.mark
        if not mark:
            return self._leaves.text_json(node, self._within)
        before, after = self._lark.split(mark)
        body = self._leaves.text(node, *map(regex, patterns.without((mark,))))
        string = self._lark.terminal(join(body, literal(before)))
        return join(self._lark.text(mark), string, after)

    def key(self, name: str) -> str | None:
        """A member's name with what stands behind it; None for one that cannot be written."""
        if not self._notation.mark:
            return quote(name) + self._notation.colon
        bare = name.strip() == name and name and not set(name) & set(":{}[],'\"<") and self._notation.mark not in name
        return name + self._notation.colon if bare else None

    def other_key(self, node: Object) -> str:
        """A terminal for the names of members that are not listed."""
        taken = [member.name for member in node.members]
        if self._notation.mark:
            return bare_name(self._lark, self._leaves, node, "", self._notation.colon)
        low, high = node.names.minimum, node.names.maximum
        parts = [
            regex(patterns.sized(_QUOTED_NAME, low, high)),
            *map(regex, (*self._leaves.kept(node.names).patterns, *self._within)),
        ]
        if taken:
            parts.append("~" + regex(patterns.either(taken)))
        return self._lark.terminal(f'"\\"" ({" & ".join(parts)}) {literal(chr(34) + self._notation.colon)}')

    def _members(self, node: Object) -> str:
        parts = []
        for member in node.members:
            if isinstance(member.node, Never):
                continue
            key = self.key(member.name)
            if key is None:
                self._leaves.warn(member.name, "the format cannot write the name")
            else:
                parts.append((join(self._lark.text(key), self.value(member.node)), member.required))
        others = ""
        if not isinstance(node.rest, Never):
            others = join(self.other_key(node), self.value(node.rest))
        return sequence(self._lark, parts, self._notation.comma, others, node.minimum, node.maximum)

    def _items(self, node: Array) -> str:
        first = [self.value(one) for one in node.prefix]
        rest = "" if isinstance(node.rest, Never) else self.value(node.rest)
        return items(self._lark, first, self._notation.comma, rest, node.minimum, node.maximum)


def bare_name(lark: Lark, leaves: Leaves, node: Object, before: str, behind: str) -> str:
    """A terminal for a name that is not among an object's members, with the text round it that belongs to it."""
    parts = [regex(_BARE_NAME), *map(regex, leaves.kept(node.names).patterns)]
    if node.names.minimum > 1 or node.names.maximum is not None:
        parts.append(regex(patterns.sized("(?s:.)", node.names.minimum, node.names.maximum)))
    if node.members:
        parts.append("~" + regex(patterns.either([member.name for member in node.members])))
    name = parts[0] if len(parts) == 1 else f"({' & '.join(parts)})"
    return lark.terminal(join(literal(before), name, literal(behind)))
