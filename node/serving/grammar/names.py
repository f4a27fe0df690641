"""Names that a format has no way to write, taken out of a schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from node.serving.grammar.nodes import NEVER, Array, Member, Never, Node, Object, Others, Schema, Union, union
from node.serving.grammar.prune import prune

UNWRITTEN = "the format cannot write {}, so that it is never there"
"""Said of what is left out and need not be there: all that is written still fits the schema."""
REQUIRED = "the format cannot write {}, which is required"
"""Said where nothing that fits could be written: it is left out all the same."""


class Names:
    """What a format can write.

    Args:
        member: whether it can write the name of a member.
        others: of the members that are not listed, those that it can write.
        warn: says what was left out, and where.
    """

    def __init__(
        self,
        member: Callable[[str], bool],
        others: Callable[[tuple[Others, ...]], Iterable[Others]],
        warn: Callable[[str, str], None],
    ) -> None:
        self._member = member
        self._others = others
        self._warn = warn
        self._missing: dict[tuple[str, str], None] = {}

    def within(self, schema: Schema, *, deep: bool) -> Schema:
        """The schema without what cannot be written; as it is where nothing would be left.

        ``deep``: not only in the root, for formats that quote the names further in.
        """
        self._missing.clear()
        if deep:
            definitions = {name: self._narrowed(node, deep) for name, node in schema.definitions.items()}
            root = self._narrowed(schema.root, deep)
        else:
            definitions = dict(schema.definitions)
            root = union([self._narrowed(node, deep) for node in schema.options(schema.root)])
        found = prune(replace(schema, root=root, definitions=definitions))
        if isinstance(found.root, Never):
            self._warn("", REQUIRED.format("all properties"))
            return schema
        for where, what in self._missing:
            self._warn(where, UNWRITTEN.format(what))
        return found

    def _narrowed(self, node: Node, deep: bool) -> Node:
        if isinstance(node, Union):
            return union([self._narrowed(one, deep) for one in node.options])
        if isinstance(node, Array):
            inner = tuple(self._narrowed(one, deep) for one in node.prefix)
            return replace(node, prefix=inner, rest=self._narrowed(node.rest, deep))
        return self._object(node, deep) if isinstance(node, Object) else node

    def _object(self, node: Object, deep: bool) -> Node:
        members = []
        for one in node.members:
            if isinstance(one.node, Never) or self._member(one.name):
                members.append(Member(one.name, self._narrowed(one.node, deep) if deep else one.node, one.required))
            elif one.required:
                return NEVER
            else:
                self._missing[one.name, "the name"] = None
                members.append(Member(one.name, NEVER, False))
        others = tuple(self._others(node.others))
        if len(others) < len(node.others):
            self._missing["", "the names of other properties"] = None
        if deep:
            others = tuple(replace(one, node=self._narrowed(one.node, deep)) for one in others)
        return replace(node, members=tuple(members), others=others)
