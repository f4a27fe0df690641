"""Walk what a decoder layer takes and returns: arrays and caches inside lists, tuples, dicts and plain objects.

A path is a tuple of steps from the outside in: an index, a dict key, or an ``Attribute``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

Path = tuple[Any, ...]

_PLAIN = (int, float, bool, str, bytes, type(None), mx.Dtype)


@dataclass(frozen=True)
class Attribute:
    """A step into an attribute of an object."""

    name: str

    def __repr__(self) -> str:
        return f".{self.name}"


def is_cache(value: Any) -> bool:
    """Whether the value is one of mlx-lm's caches: each of their classes, and nothing else, says if it is trimmable."""
    return hasattr(type(value), "is_trimmable")


def is_state_object(value: Any) -> bool:
    """Whether the value is a plain object that layers hand on and change, with arrays among its attributes."""
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, (nn.Module, type, mx.array, *_PLAIN))
        and not is_cache(value)
        and not callable(value)
    )


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every array, cache and opaque value of the tree with its path, in a stable order."""
    if isinstance(tree, mx.array) or is_cache(tree):
        yield path, tree
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from leaves(value, (*path, i))
    elif isinstance(tree, dict) and not isinstance(tree, nn.Module):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif is_state_object(tree):
        for name, value in vars(tree).items():
            yield from leaves(value, (*path, Attribute(name)))
    else:
        yield path, tree


def get(tree: Any, path: Path) -> Any:
    """The value at the path. Raises KeyError, IndexError or AttributeError where there is none."""
    for step in path:
        tree = getattr(tree, step.name) if isinstance(step, Attribute) else tree[step]
    return tree


def put(tree: Any, path: Path, value: Any) -> Any:
    """Set the value at the path and return the tree: changed in place, but for tuples, which are made anew."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, Attribute):
        setattr(tree, step.name, put(getattr(tree, step.name, None), rest, value))
    elif isinstance(tree, tuple):
        return tuple(put(old, rest, value) if i == step else old for i, old in enumerate(tree))
    else:
        old = tree.get(step) if isinstance(tree, dict) else tree[step]
        tree[step] = put(old, rest, value)
    return tree


def mutable_state(call: tuple[tuple[Any, ...], dict[str, Any]]) -> list[tuple[Path, Any]]:
    """The dicts and plain objects among a call's arguments, which the call could change in place."""
    args, kwargs = call
    found = [item for i, value in enumerate(args) for item in _mutable(value, (0, i))]
    return found + [item for key, value in kwargs.items() for item in _mutable(value, (1, key))]


def _mutable(value: Any, path: Path) -> list[tuple[Path, Any]]:
    if isinstance(value, (mx.array, nn.Module)) or is_cache(value):
        return []
    if isinstance(value, (list, tuple)):
        return [item for i, inner in enumerate(value) for item in _mutable(inner, (*path, i))]
    if isinstance(value, dict):
        return [(path, value)] + [item for key, inner in value.items() for item in _mutable(inner, (*path, key))]
    return [(path, value)] if is_state_object(value) else []
