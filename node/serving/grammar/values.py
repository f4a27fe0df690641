"""Writers from schema to grammar for notations that quote: JSON, Python literals, Gemma's braces."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from node.serving.grammar import patterns
from node.serving.grammar.lark import Lark, choice, join, literal, regex
from node.serving.grammar.leaves import Leaves, excluded
from node.serving.grammar.names import REQUIRED, UNWRITTEN
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
        return name + self._notation.colon if can_be_key(name, self._notation.mark) else None

    def _other_key(self, node: Object, names: Text) -> str:
        """A terminal for the names of members that are not listed; empty where there are none."""
        mark, colon = self._notation.mark, self._notation.colon
        if mark:
            return bare_name(self._lark, self._leaves, node, names, "", colon)
        kept = self._leaves.kept(names)
        if not self._leaves.possible(kept):
            return ""
        parts = [patterns.sized(_QUOTED_NAME, kept.minimum, kept.maximum), *kept.patterns, *self._within]
        return name_terminal(self._lark, node, kept, parts, '"', f'"{colon}')

    def _members(self, node: Object) -> str:
        parts = []
        for member in node.members:
            if isinstance(member.node, Never):
                continue
            key = self.key(member.name)
            if key is None:
                self._leaves.warn(member.name, (REQUIRED if member.required else UNWRITTEN).format("the name"))
            else:
                parts.append((join(self._lark.text(key), self.value(member.node)), member.required))
        named = [(self._other_key(node, one.names), one.node) for one in node.others]
        others = choice(join(key, self.value(value)) for key, value in named if key)
        return sequence(self._lark, parts, self._notation.comma, others, node.minimum, node.maximum)

    def _items(self, node: Array) -> str:
        first = [self.value(one) for one in node.prefix]
        rest = "" if isinstance(node.rest, Never) else self.value(node.rest)
        return items(self._lark, first, self._notation.comma, rest, node.minimum, node.maximum)


def can_be_key(name: str, mark: str) -> bool:
    """Whether braces can have the name as a key, which nothing quotes."""
    return bool(name) and name.strip() == name and not set(name) & set(":{}[],'\"<") and mark not in name


def can_be_bare(leaves: Leaves, names: Text) -> bool:
    """Whether some of the names can stand where nothing quotes them."""
    kept = leaves.kept(names)
    return leaves.possible(replace(kept, patterns=(*kept.patterns, _BARE_NAME)))


def bare_name(lark: Lark, leaves: Leaves, node: Object, names: Text, before: str, behind: str) -> str:
    """A terminal for a name that is not among an object's members and that nothing quotes, with the text round it.

    Empty where no such name can be written.
    """
    if not can_be_bare(leaves, names):
        leaves.warn(names.where, REQUIRED.format("the names of other properties"))
        return ""
    kept = leaves.kept(names)
    parts = [_BARE_NAME, *kept.patterns]
    if kept.minimum > 1 or kept.maximum is not None:
        parts.append(patterns.sized("(?s:.)", kept.minimum, kept.maximum))
    return name_terminal(lark, node, kept, parts, before, behind)


def name_terminal(lark: Lark, node: Object, names: Text, parts: list[str], before: str, behind: str) -> str:
    """A terminal for what matches all the parts and is neither a member's name nor excluded."""
    lexemes = list(map(regex, parts))
    lexemes += excluded(names)
    if node.members:
        lexemes.append("~" + regex(patterns.either(member.name for member in node.members)))
    return lark.terminal(join(literal(before), f"({' & '.join(lexemes)})", literal(behind)))
