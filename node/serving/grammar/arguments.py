"""The arguments of one call, as the format writes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from node.serving.grammar import patterns
from node.serving.grammar.elements import Elements
from node.serving.grammar.lark import Lark, choice, join, optional
from node.serving.grammar.leaves import Leaves
from node.serving.grammar.names import REQUIRED, UNWRITTEN, Names
from node.serving.grammar.nodes import (
    EVERYTHING,
    Array,
    Constants,
    Never,
    Node,
    Number,
    Object,
    Others,
    Schema,
    Text,
    union,
)
from node.serving.grammar.raw import Leaf
from node.serving.grammar.sequences import sequence
from node.serving.grammar.values import JSON, PYTHON, Notation, Values, bare_name, can_be_bare, can_be_key
from parsers.format import Capture, ElementArguments, Expect, Format, RawValue, Wire

# The JSON types that the request's schema gives the value at a path.
Types = Callable[[tuple[str, ...]], frozenset[str]]
# A name that no schema lists: it asks what holds of those that are not listed.
_OTHER = "\n"
_LONGEST_NAME = 256
_STRING = frozenset({"string"})


def arguments(spec: Format, wire: Wire, lark: Lark, schema: Schema, leaves: Leaves, types: Types) -> str:
    """The expression for the arguments; empty where there can be none. The schema's root is that of an object."""
    if wire.style == "json":
        return Values(lark, schema, JSON, leaves).value(schema.root)
    if wire.style == "braces":
        names = Names(lambda name: can_be_key(name, wire.quote), partial(_bare, leaves), leaves.warn)
        schema = names.within(schema, deep=True)
        return Values(lark, schema, Notation(",", ":", mark=wire.quote), leaves).value(schema.root)
    writer: _Python | _Parameters | Elements
    if wire.style == "python":
        writer = _Python(lark, schema, leaves)
    elif wire.style == "elements":
        close = next(state.close for state in spec.states.values() if isinstance(state, ElementArguments))
        writer = Elements(lark, schema, leaves, types, wire.quote, close)
    else:
        writer = _Parameters(spec, wire, lark, schema, leaves, types)
    schema = Names(writer.can_write, writer.writable, leaves.warn).within(schema, deep=False)
    roots = [node for node in schema.options(schema.root) if isinstance(node, Object)]
    ways = [writer.members(root) for root in roots]
    needed = [way for way in ways if way]
    return optional(choice(needed)) if len(needed) < len(ways) else choice(needed)


def _bare(leaves: Leaves, others: tuple[Others, ...]) -> tuple[Others, ...]:
    """Those whose names can stand where nothing quotes them."""
    return tuple(one for one in others if can_be_bare(leaves, one.names))


class _Python:
    """``key=value, ...`` between the brackets of a call."""

    def __init__(self, lark: Lark, schema: Schema, leaves: Leaves) -> None:
        self._lark = lark
        self._leaves = leaves
        self._values = Values(lark, schema, PYTHON, leaves)

    def can_write(self, name: str) -> bool:
        """Whether the name can stand before an equals sign."""
        odd = any(char.isspace() or char in ",:=()[]{}'\"<" for char in name)
        return 0 < len(name) < _LONGEST_NAME and not odd

    def writable(self, others: tuple[Others, ...]) -> tuple[Others, ...]:
        """Of what is not listed, what can be written."""
        return _bare(self._leaves, others)

    def members(self, root: Object) -> str:
        """The expression for the members; empty for none."""
        parts = []
        for member in root.members:
            if isinstance(member.node, Never):
                continue
            if not self.can_write(member.name):
                self._leaves.warn(member.name, (REQUIRED if member.required else UNWRITTEN).format("the name"))
            else:
                key = self._lark.text(f"{member.name}=")
                parts.append((join(key, self._values.value(member.node)), member.required))
        named = [(bare_name(self._lark, self._leaves, root, one.names, "", "="), one.node) for one in root.others]
        others = choice(join(key, self._values.value(value)) for key, value in named if key)
        return sequence(self._lark, parts, ", ", others, root.minimum, root.maximum)


class _Parameters:
    """Raw parameters, each between tags of its own."""

    def __init__(self, spec: Format, wire: Wire, lark: Lark, schema: Schema, leaves: Leaves, types: Types) -> None:
        self._lark = lark
        self._schema = schema
        self._leaves = leaves
        self._types = types
        self._open, self._middle, self._close = wire.parameter
        keys = [one for one in spec.states.values() if isinstance(one, Capture) and one.what == "key"]
        self._closes = [edge.literal for one in keys for edge in one.edges]
        self._escaped = any(one.escaped for one in keys)
        self._leaf = Leaf(lark, schema, leaves, patterns.without(*_raw_ends(spec, self._close.strip())))
        self._by_type = "{type}" in self._middle
        self._typed = self._by_type or "{string}" in self._middle

    def members(self, root: Object) -> str:
        """The expression for the members; empty for none."""
        parts = []
        for member in root.members:
            if isinstance(member.node, Never):
                continue
            name = member.name
            ways = self._parameter(member.node, name, root) if self.can_write(name) else []
            if not ways:
                self._leaves.warn(name, (REQUIRED if member.required else UNWRITTEN).format("the parameter"))
            else:
                parts.append((choice(ways), member.required))
        others = choice(way for one in root.others for way in self._parameter(one.node, one.names, root))
        return sequence(self._lark, parts, "", others, root.minimum, root.maximum)

    def writable(self, others: tuple[Others, ...]) -> tuple[Others, ...]:
        """Of what is not listed, what can be written."""
        return _bare(self._leaves, others)

    def can_write(self, name: str) -> bool:
        """Whether the parser reads the name back."""
        whole = name == name.strip() and 0 < len(name) < _LONGEST_NAME and not (self._escaped and set(name) & set('&"'))
        return whole and all((name + close).index(close) == len(name) for close in self._closes)

    def _parameter(self, node: Node, name: str | Text, root: Object) -> list[str]:
        """The ways to write one parameter, its tags included; `name` may be what names there are that the root does
        not list.
        """

        def tag(middle: str) -> str:
            if isinstance(name, str):
                return self._lark.text(self._open + name + middle)
            before, close = self._lark.rsplit(self._open)
            behind, rest = self._lark.split(middle)
            named = bare_name(self._lark, self._leaves, root, name, close, behind)
            return join(before, named, rest) if named else ""

        types = self._types((name if isinstance(name, str) else _OTHER,))
        if not self._typed:
            ways, opened = self._leaf.ways(node, types, self._close), tag(self._middle)
            return [join(opened, choice(ways))] if ways and opened else []
        groups: dict[str, list[Node]] = {}
        for one in self._schema.options(node):
            for kind, part in _kinds(one):
                # What says its type is nevertheless read by the types of the schema, where it has any.
                if not types or kind in types or (kind == "number" and "integer" in types):
                    groups.setdefault(kind if kind == "string" or self._by_type else "json", []).append(part)
        found = []
        for kind, nodes in groups.items():
            middle = self._middle.replace("{string}", "true" if kind == "string" else "false").replace("{type}", kind)
            if kind == "string":
                ways = self._leaf.ways(union(nodes), _STRING, self._close)
            else:
                ways = [self._leaf.json(one, self._close) for one in nodes]
            if ways and (opened := tag(middle)):
                found.append(join(opened, choice(ways)))
        return found


def _kinds(node: Node) -> list[tuple[str, Node]]:
    """The node's JSON types, with the part of it that is of each."""
    if isinstance(node, Text):
        return [("string", node)]
    if isinstance(node, Number):
        return [("number", node)]
    if isinstance(node, Object):
        return [("object", node)]
    if isinstance(node, Array):
        return [("array", node)]
    if isinstance(node, Constants):
        groups: dict[str, list[str]] = {}
        for value in node.values:
            kind = {'"': "string", "t": "boolean", "f": "boolean", "n": "null"}.get(value[0], "number")
            groups.setdefault(kind, []).append(value)
        return [(kind, Constants(tuple(values))) for kind, values in groups.items()]
    return [kind for one in EVERYTHING.options for kind in _kinds(one)]


def _raw_ends(spec: Format, close: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What ends a raw value wherever it stands, and what does so with other markup behind it."""
    ends, cuts = [close], list[str]()
    for state in spec.states.values():
        if isinstance(state, RawValue) and any(edge.literal == close for edge in state.edges):
            for edge in state.edges:
                if edge.keep:
                    (cuts if _is_cut(spec, edge.to, edge.literal) else ends).append(edge.literal)
        if isinstance(state, Expect) and any(not edge.literal for edge in state.edges):
            # What a value must not begin with, for there it would be read in another way.
            leads = {edge.to for edge in state.edges}
            if any(isinstance(spec.states.get(to), RawValue) for to in leads):
                ends.extend(edge.literal for edge in state.edges if edge.literal)
    return tuple(dict.fromkeys(ends)), tuple(cuts)


def _is_cut(spec: Format, to: str, literal_text: str) -> bool:
    """Whether the literal, in the state behind the value, ends more than the value."""
    state = spec.states.get(to)
    edges = state.edges if isinstance(state, Expect) else ()
    found = next((edge for edge in edges if edge.literal == literal_text), None)
    return found is not None and not isinstance(spec.states.get(found.to), Capture)
