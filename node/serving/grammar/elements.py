"""The writer from schema to grammar for nested elements, ``<mark><key>text<mark></key>`` with arrays of ``<item>``."""

from __future__ import annotations

from collections.abc import Callable

from node.serving.grammar import patterns
from node.serving.grammar.lark import Lark, choice, join, literal, regex, repeat
from node.serving.grammar.leaves import Leaves
from node.serving.grammar.names import REQUIRED, UNWRITTEN
from node.serving.grammar.nodes import (
    ANY_OBJECT,
    ANYTHING,
    Array,
    Never,
    Node,
    Object,
    Others,
    Reference,
    Schema,
    Union,
    union,
)
from node.serving.grammar.raw import Leaf
from node.serving.grammar.sequences import sequence

_NAME = r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}"
# A name that no schema lists: it asks what holds of those that are not listed.
_OTHER = "\n"


class Elements:
    """Writes the members of a call.

    Args:
        types: the JSON types that the request's schema gives the value at a path.
        close: the name of the tag that closes the call.
    """

    def __init__(
        self,
        lark: Lark,
        schema: Schema,
        leaves: Leaves,
        types: Callable[[tuple[str, ...]], frozenset[str]],
        mark: str,
        close: str,
    ) -> None:
        self._lark = lark
        self._schema = schema
        self._leaves = leaves
        self._types = types
        self._mark = mark
        self._closing = (close, "tool_call")
        self._leaf = Leaf(lark, schema, leaves, patterns.without((mark,)))
        # Of what contains itself: what follows its opening tag, by the name of the tag.
        self._known: dict[tuple[str, str], str] = {}

    def can_write(self, name: str) -> bool:
        """Whether an element can have the name."""
        plain = name and name == name.strip() and len(name) < 256 and not set(name) & set("<>/\n")
        return bool(plain) and name not in self._closing and not name.startswith(f"{self._closing[0]} ")

    def writable(self, others: tuple[Others, ...]) -> tuple[Others, ...]:
        """Of what is not listed, what it can write: anything, or nothing."""
        return others if others == ANY_OBJECT.others else ()

    def members(self, root: Object) -> str:
        """The expression for the arguments; empty for none."""
        others = ""
        if root.others == ANY_OBJECT.others:
            others = self._other()
        elif root.others:
            self._leaves.warn("", REQUIRED.format("parameters that are not listed"))
        parts, missing = self._listed(root, ())
        required = {one.name for one in root.members if one.required}
        for name in missing:
            self._leaves.warn(name, (REQUIRED if name in required else UNWRITTEN).format("the parameter"))
        return sequence(self._lark, parts, "", others, root.minimum, root.maximum)

    def _other(self) -> str:
        """An element of any name. That its end has the same no grammar can say; the reader takes it for text if not."""
        before, inside = self._lark.rsplit(f"{self._mark}<")
        name = regex(_NAME)
        opened = self._lark.terminal(join(literal(inside), name, literal(">")))
        value = choice(self._leaf.ways(ANYTHING, self._types((_OTHER,)), self._mark))
        closed = f"({name} & ~{regex(patterns.either(self._closing))})"
        return join(before, opened, value, self._lark.terminal(join(literal("</"), closed, literal(">"))))

    def _listed(self, node: Object, path: tuple[str, ...]) -> tuple[list[tuple[str, bool]], list[str]]:
        """The members that the format can write, and the names of the others."""
        parts, missing = [], []
        for member in node.members:
            name = member.name
            if isinstance(member.node, Never):
                continue
            part = self._element(name, member.node, (*path, name)) if self.can_write(name) else ""
            if part:
                parts.append((part, member.required))
            else:
                missing.append(name)
        return parts, missing

    def _element(self, name: str, node: Node, path: tuple[str, ...]) -> str:
        """The expression for an element; empty where the format cannot write it."""
        inside = self._inside(name, node, path)
        return join(self._lark.text(f"{self._mark}<{name}>"), inside) if inside else ""

    def _inside(self, name: str, node: Node, path: tuple[str, ...]) -> str:
        """What follows an opening tag: the value and the closing tag."""
        close = f"{self._mark}</{name}>"
        if isinstance(node, Reference):
            key = (node.name, name)
            if key not in self._known:
                rule = self._known[key] = self._lark.reserve()
                body = self._inside(name, self._schema.definitions[node.name], path)
                self._lark.define(rule, body or self._leaf.json(node, close))
                if not body:
                    self._known[key] = ""
            return self._known[key]
        if isinstance(node, Union) and any(isinstance(one, Reference) for one in node.options):
            return choice([self._inside(name, one, path) for one in node.options])
        types = self._types(path)
        ways, plain = [], []
        for one in self._schema.options(node):
            children = ""
            if isinstance(one, Object) and "object" in types and not one.others:
                children = self._children(one, path)
                empty = not one.minimum and not any(member.required for member in one.members)
            elif isinstance(one, Array) and types & {"object", "array"} == {"array"} and not one.prefix:
                item = self._element("item", one.rest, (*path, "[]"))
                children = repeat(item, max(one.minimum, 1), one.maximum) if item else ""
                empty = not one.minimum
            if not children:
                plain.append(one)
                continue
            ways.append(join(children, self._lark.text(close)))
            if empty:
                ways.append(self._lark.text(("{}" if isinstance(one, Object) else "[]") + close))
        ways.extend(self._leaf.ways(union(plain), types, close) if plain else ())
        return self._lark.rule(choice(ways)) if ways else ""

    def _children(self, node: Object, path: tuple[str, ...]) -> str:
        """An object's members, at least one of them; empty where elements cannot write them all."""
        parts, missing = self._listed(node, path)
        return "" if missing else sequence(self._lark, parts, "", low=max(node.minimum, 1), high=node.maximum)
