"""Takes away what can never be: values that would have to contain themselves without end, and what needs them."""

from __future__ import annotations

from dataclasses import replace

from node.serving.grammar.nodes import (
    NEVER,
    Anything,
    Array,
    Constants,
    Member,
    Never,
    Node,
    Number,
    Object,
    Others,
    Reference,
    Schema,
    Text,
    Union,
    union,
)


def prune(schema: Schema) -> Schema:
    """The schema without what can never be; its root is `Never` if that is all."""
    alive: set[str] = set()
    while True:
        found = {name for name, node in schema.definitions.items() if _ends(node, alive)}
        if found == alive:
            break
        alive = found
    definitions = {name: _without(node, alive) for name, node in schema.definitions.items() if name in alive}
    return replace(schema, root=_without(schema.root, alive), definitions=definitions)


def _ends(node: Node, alive: set[str]) -> bool:
    """Whether there is a value, if there are those of the definitions that are `alive`."""
    if isinstance(node, (Anything, Text, Number)):
        return True
    if isinstance(node, Constants):
        return bool(node.values)
    if isinstance(node, Reference):
        return node.name in alive
    if isinstance(node, Union):
        return any(_ends(option, alive) for option in node.options)
    if isinstance(node, Object):
        there = [member for member in node.members if _ends(member.node, alive)]
        return (
            all(member in there for member in node.members if member.required)
            and (node.minimum <= len(there) or any(_ends(other.node, alive) for other in node.others))
            and (node.maximum is None or node.maximum >= sum(member.required for member in node.members))
        )
    return isinstance(node, Array) and node.minimum <= _most(node, alive)


def _most(node: Array, alive: set[str]) -> int:
    """How many items there can be."""
    most = next((index for index, one in enumerate(node.prefix) if not _ends(one, alive)), len(node.prefix))
    if most == len(node.prefix) and _ends(node.rest, alive):
        most = max(most, node.minimum) if node.maximum is None else node.maximum
    return most if node.maximum is None else min(most, node.maximum)


def _without(node: Node, alive: set[str]) -> Node:
    if not _ends(node, alive):
        return NEVER
    if isinstance(node, Union):
        return union([_without(option, alive) for option in node.options])
    if isinstance(node, Array):
        rest = _without(node.rest, alive)
        maximum = node.maximum
        if isinstance(rest, Never) or _most(node, alive) < len(node.prefix):
            maximum, rest = _most(node, alive), NEVER
        return replace(
            node, prefix=tuple(_without(one, alive) for one in node.prefix[:maximum]), rest=rest, maximum=maximum
        )
    if isinstance(node, Object):
        members = tuple(Member(one.name, _without(one.node, alive), one.required) for one in node.members)
        others = tuple(Others(one.names, _without(one.node, alive)) for one in node.others if _ends(one.node, alive))
        return replace(node, members=members, others=others)
    return node
