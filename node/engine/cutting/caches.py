"""What the cutting must know of mlx-lm's caches: which are alike, how to keep one in step, what one costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from tandem.errors import UnsupportedModelError

Cache = Any  # one of mlx-lm's cache classes: they share no useful base
_SCALARS = (int, float, bool, str, type(None), mx.Dtype)


@dataclass(frozen=True)
class CacheCost:
    """Bytes that one cache takes per sequence: ``fixed``, and ``per_token`` for at most ``window`` tokens."""

    per_token: int = 0
    window: int | None = None
    fixed: int = 0

    def nbytes(self, tokens: int) -> int:
        """Bytes for one sequence of that many tokens."""
        return self.fixed + self.per_token * (tokens if self.window is None else min(tokens, self.window))


def fresh_caches(model: nn.Module) -> list[Cache]:
    """The caches that mlx-lm makes for one new sequence of the whole model."""
    from mlx_lm.models.cache import make_prompt_cache

    caches: list[Cache] = make_prompt_cache(model)
    return caches


def leaf_caches(entry: Cache) -> list[Cache]:
    """The caches inside a ``CacheList``; another cache by itself."""
    inner = getattr(entry, "caches", None)
    return [entry] if inner is None else [leaf for cache in inner for leaf in leaf_caches(cache)]


def kind_of(entry: Cache) -> tuple[Any, ...]:
    """Equal for two new caches of which one can stand in for the other in masks and offsets."""
    leaves = leaf_caches(entry)
    if leaves != [entry]:
        return tuple(kind_of(leaf) for leaf in leaves)
    settings = {name: len(value) if isinstance(value, list) else value for name, value in vars(entry).items()}
    return (
        type(entry).__name__,
        tuple(sorted((name, value) for name, value in settings.items() if isinstance(value, _SCALARS))),
    )


def contents(cache: Cache) -> list[Any]:
    """The arrays and numbers in a cache, to compare with ``same_contents``."""
    return [value for _, value in _state(cache)]


def same_contents(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether the contents are the same arrays and equal numbers."""
    return len(before) == len(after) and all(
        a is b or (not isinstance(a, mx.array) and not isinstance(b, mx.array) and a == b)
        for a, b in zip(before, after, strict=True)
    )


def can_tick(entry: Cache) -> bool:
    """Whether ``tick`` knows how to keep such a cache in step."""
    return all(hasattr(leaf, "update_and_fetch") or hasattr(leaf, "advance") for leaf in leaf_caches(entry))


def tick(entry: Cache, batch: int, length: int) -> None:
    """Advance a cache that no layer here fills by ``length`` positions, at four bytes per position and sequence.

    All of mlx-lm's operations on the cache (merge, extend, filter, trim, …) then do what they do to a full one.
    """
    for cache in leaf_caches(entry):
        if hasattr(cache, "update_and_fetch"):
            nothing = mx.zeros((batch, 1, length, 1), mx.float16)
            cache.update_and_fetch(nothing, nothing)
        else:
            for i, array in enumerate(cache.cache):
                if array is None:
                    cache[i] = mx.zeros((batch, 1), mx.float16)
            cache.advance(length)


def trimmable(entries: Sequence[Cache]) -> bool:
    """Whether new caches like these can be cut back to any earlier position, however long the sequence became."""
    from mlx_lm.models.cache import ConcatenateKVCache, KVCache

    # Others that call themselves trimmable are so only until their window is full.
    return all(type(leaf) in (KVCache, ConcatenateKVCache) for entry in entries for leaf in leaf_caches(entry))


def batchable(entries: Sequence[Cache]) -> bool:
    """Whether new caches like these can be merged into one for a batch of sequences."""
    return all(hasattr(leaf, "merge") for entry in entries for leaf in leaf_caches(entry))


def window_of(cache: Cache) -> int | None:
    """The most tokens that a cache keeps, or None."""
    for name in ("max_size", "chunk_size"):
        size = getattr(cache, name, None)
        if isinstance(size, int):
            return size
    return None


def state_bytes(cache: Cache) -> int:
    """Bytes of the arrays in a cache, evaluated or not."""
    return sum(value.nbytes for _, value in _state(cache) if isinstance(value, mx.array))


def alias(model: nn.Module, own: set[int], idle: set[int]) -> tuple[list[int], list[int], dict[int, int]]:
    """Choose what stands in for the caches that a stage does not own.

    Args:
        model: for the caches that it makes.
        own: entries that the stage fills.
        idle: entries that nothing needs to stand in for.

    Returns:
        The entries to make, the positions among them of phantoms (caches that must be ticked), and for each entry
        the position of the cache that serves it: its own or one of the same kind, which advances in lock step.

    Raises:
        UnsupportedModelError: nobody knows how to keep a phantom of some kind in step.
    """
    fresh = fresh_caches(model)
    entries = sorted(own)
    phantoms: list[int] = []
    position = {entry: i for i, entry in enumerate(entries)}
    of_kind: dict[Any, int] = {}
    for entry in entries:
        of_kind.setdefault(kind_of(fresh[entry]), position[entry])
    for entry in range(len(fresh)):
        if entry in own or entry in idle:
            continue
        kind = kind_of(fresh[entry])
        if kind not in of_kind:
            if not can_tick(fresh[entry]):
                raise UnsupportedModelError(f"a {type(fresh[entry]).__name__} cannot be kept in step from outside")
            of_kind[kind] = len(entries)
            phantoms.append(len(entries))
            entries.append(entry)
        position[entry] = of_kind[kind]
    return entries, phantoms, position


def _state(cache: Cache) -> Iterator[tuple[str, Any]]:
    state = {name: value for name, value in vars(cache).items() if not callable(value)}
    flat: list[tuple[str, Any]] = tree_flatten(state)
    yield from flat
