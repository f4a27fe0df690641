"""Parameters that take no memory, and a model's state put back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten


def ghost(shape: tuple[int, ...], dtype: mx.Dtype, fill: float = 0) -> mx.array:
    """An array of that shape and dtype that takes one element of memory, even when it is evaluated."""
    return mx.broadcast_to(mx.array(fill, dtype), shape)


def make_ghosts(model: nn.Module, keep: set[str] | frozenset[str] = frozenset(), fill: float = 0) -> None:
    """Replace each parameter of the model that is not kept by a ghost. ``fill`` is for floating ones, others get 0."""
    model.update(
        tree_unflatten(
            [
                (name, ghost(value.shape, value.dtype, fill if mx.issubdtype(value.dtype, mx.floating) else 0))
                for name, value in tree_flatten(model.parameters())
                if name not in keep
            ]
        )
    )


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put every module's parameters and attributes back at the end, whatever a forward in between did to them.

    Some layers write to their own weights, or keep products of them in attributes.
    """
    before = [(module, dict(module), dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, items, attributes in before:
            module.clear()
            dict.update(module, items)
            vars(module).clear()
            vars(module).update(attributes)


def parameters(model: nn.Module) -> dict[str, Any]:
    """The model's parameters by full name."""
    return dict(tree_flatten(model.parameters()))
