"""Whether of several alternatives no value can be more than one, so that "one of" says no more than "any of"."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from node.serving.grammar.nodes import (
    Anything,
    Array,
    Constants,
    Never,
    Node,
    Number,
    Object,
    Reference,
    Text,
    Union,
    fits,
)


def exclusive(options: Sequence[Node], definitions: Mapping[str, Node]) -> bool:
    """Whether every value that would be written for one of the options fits none of the others."""
    return all(
        _apart(one, other, definitions, 8)
        for index, one in enumerate(options)
        for position, other in enumerate(options)
        if index != position
    )


def _apart(one: Node, other: Node, definitions: Mapping[str, Node], depth: int) -> bool:
    if not depth or isinstance(one, Anything) or isinstance(other, Anything):
        return False
    if isinstance(one, Never) or isinstance(other, Never):
        return True
    if isinstance(one, Reference) or isinstance(other, Reference):
        resolved = [definitions.get(node.name) if isinstance(node, Reference) else node for node in (one, other)]
        if resolved[0] is None or resolved[1] is None:
            return False
        return _apart(resolved[0], resolved[1], definitions, depth - 1)
    if isinstance(one, Union):
        return all(_apart(option, other, definitions, depth - 1) for option in one.options)
    if isinstance(other, Union):
        return all(_apart(one, option, definitions, depth - 1) for option in other.options)
    if isinstance(one, Constants):
        return not any(fits(json.loads(value), other, definitions) for value in one.values)
    if isinstance(other, Constants):
        return not any(fits(json.loads(value), one, definitions) for value in other.values)
    if isinstance(one, Object) and isinstance(other, Object):
        return _objects_apart(one, other, definitions, depth)
    return _kind(one) is not _kind(other)


def _kind(node: Node) -> type:
    for kind in (Text, Number, Array):
        if isinstance(node, kind):
            return kind
    return type(node)


def _objects_apart(one: Object, other: Object, definitions: Mapping[str, Node], depth: int) -> bool:
    """A property that the other needs and this one never has, or that both have with different values."""
    members = {member.name: member for member in one.members}
    for member in other.members:
        mine = members.get(member.name)
        if mine is None:
            if member.required and not one.others:
                return True
        elif (mine.required and _apart(mine.node, member.node, definitions, depth - 1)) or (
            member.required and isinstance(mine.node, Never)
        ):
            return True
    return False
