"""Which arrays of the lazy graph another array is computed from. Nothing is evaluated."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import mlx.core as mx

_EDGE = re.compile(r'^("?)([^"]+)\1 -> ("?)([^"]+)\3$')
_CHUNK = 400  # names are keyword arguments of a native function, which takes 1024


def ancestors(named: Mapping[str, mx.array], roots: Sequence[mx.array]) -> list[set[str]]:
    """For every root, the names of the arrays that it is or is computed from."""
    found: list[set[str]] = [set() for _ in roots]
    names = list(named)
    # A node of its own for each root: several roots, or a root and a named array, can be one array.
    nodes = [mx.stop_gradient(root) for root in roots]
    for start in range(0, len(nodes), _CHUNK):
        part = nodes[start : start + _CHUNK]
        labels = {f"r{i}": node for i, node in enumerate(part)}
        for first in range(0, len(names), _CHUNK):
            label_of = {f"n{i}": name for i, name in enumerate(names[first : first + _CHUNK])}
            inputs = _edges(part, {**labels, **{label: named[name] for label, name in label_of.items()}})
            for i in range(len(part)):
                reached = _reach(inputs, f"r{i}")
                found[start + i] |= {label_of[node] for node in reached if node in label_of}
    return found


def depends_on(named: Mapping[str, mx.array], roots: Sequence[mx.array]) -> set[str]:
    """Names of the arrays that at least one root is or is computed from."""
    name_of = {id(array): name for name, array in named.items()}
    direct = {name_of[id(root)] for root in roots if id(root) in name_of}
    derived = [root for root in roots if id(root) not in name_of]
    return direct.union(*ancestors(named, derived))


def _edges(roots: Sequence[mx.array], names: Mapping[str, mx.array]) -> dict[str, list[str]]:
    text = io.StringIO()
    mx.export_to_dot(text, *roots, **names)
    inputs: dict[str, list[str]] = {}
    for line in text.getvalue().splitlines():
        if edge := _EDGE.match(line):
            inputs.setdefault(edge[4], []).append(edge[2])
    return inputs


def _reach(inputs: Mapping[str, Sequence[str]], start: str) -> set[str]:
    seen: set[str] = set()
    stack = [start]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(inputs.get(node, ()))
    return seen
