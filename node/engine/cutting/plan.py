"""Where a model can be cut, and what must cross each cut: found by tracing, from the configuration alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from node.engine.cutting.caches import CacheCost, fresh_caches, kind_of, leaf_caches, window_of
from node.engine.cutting.ghosts import make_ghosts, parameters, unchanged
from node.engine.cutting.hooks import switch_of
from node.engine.cutting.slots import Axis, Dims, Slot, TensorShape, sized
from node.engine.cutting.trace import CacheAt, Call, Key, Prologue, Result, SharedKV, Trace
from node.engine.cutting.trees import Path
from tandem.errors import UnsupportedModelError

_BATCHES = (3, 5)


class CutPlan:
    """The calls of a model's layers and the tensors between them.

    A cut is named by the number of the first call behind it: 0 is before all layers, ``n_calls`` between the last
    layer and the epilogue (final norm and head). Two traces of different sizes tell batch and length from the model's
    own dimensions, and show data flow that begins only after some tokens.

    Args:
        model: a whole skeleton; its parameters are not read. Built and used in one thread.
        length: tokens of the first trace; the second takes twice as many and one.

    Raises:
        UnsupportedModelError: the model cannot be cut anywhere; the message says why.
    """

    def __init__(self, model: nn.Module, length: int = 67) -> None:
        lengths = (length, 2 * length + 1)
        switch_of(model)  # hooks the layers: before the state is noted that comes back
        with unchanged(model):
            make_ghosts(model)  # should a layer evaluate something
            first, second = (Trace(model, b, n) for b, n in zip(_BATCHES, lengths, strict=True))
        fresh = fresh_caches(model)
        self._parameters = [(n, list(v.shape), str(v.dtype)) for n, v in sorted(parameters(model).items())]
        self.n_layers = len(model.layers)
        self.n_calls = len(first.calls)
        self.calls: list[Call] = first.calls
        self.groups: list[list[tuple[int, Path]]] = first.groups
        self.writer: dict[CacheAt, int] = first.writer
        self._kinds = [kind_of(entry) for entry in fresh]
        if first.head_reads_tokens:
            raise UnsupportedModelError("the head reads the tokens themselves")
        self._cuts, self._refusals = _liveness(first)
        if self._cuts != _liveness(second)[0] or first.groups != second.groups:
            raise UnsupportedModelError("what crosses a cut changes with the length of the prompt")
        self._dims: dict[Any, tuple[Dims, bool, mx.Dtype]] = {}
        for key, (shape, dtype) in first.shapes.items():
            other, _ = second.shapes.get(key, ((), dtype))
            self._dims[key] = (*_dims(shape, other, lengths), dtype)
        self._costs = {
            (e, i): self._cost((e, i), leaf, first.cache_bytes[e, i])
            for e, entry in enumerate(fresh)
            for i, leaf in enumerate(leaf_caches(entry))
        }

    # -- cuts

    def segments(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """Layer ranges, one per node → (node, first call, end call), in the order in which they run.

        One segment per node, but for models that loop over their layers: those come back to a node again.
        """
        owner = {layer: node for node, (first, end) in enumerate(ranges) for layer in range(first, end)}
        segments: list[tuple[int, int, int]] = []
        for t, call in enumerate(self.calls):
            node = owner[call.layer]
            if segments and segments[-1][0] == node:
                segments[-1] = (node, segments[-1][1], t + 1)
            else:
                segments.append((node, t, t + 1))
        return segments

    def keys(self, cut: int) -> tuple[Key, ...]:
        """The values that the calls from ``cut`` on need from before, in the order of the wire.

        Raises UnsupportedModelError when the model cannot be cut there.
        """
        if cut in self._refusals:
            raise UnsupportedModelError(f"no cut before call {cut}: {self._refusals[cut]}")
        return self._cuts[cut]

    def slots(self, cut: int) -> list[Slot]:
        """One slot per tensor that crosses the cut, in the order of the wire. Raises as ``keys``."""
        return [slot for key in self.keys(cut) for slot in self._slots(key)]

    def specs(self, cut: int, batch: int, length: int) -> list[TensorShape]:
        """Shape and dtype of each tensor that crosses the cut in a step of that size. Raises as ``keys``."""
        return [slot.shape(batch, length) for slot in self.slots(cut)]

    def wire_bytes(self, cut: int, batch: int = 1, length: int = 1) -> int:
        """Bytes that cross the cut in a step of that size. Raises as ``keys``."""
        return sum(spec.nbytes for spec in self.specs(cut, batch, length))

    def describe(self, cut: int) -> list[str]:
        """What crosses the cut, for people: one line per tensor. Raises as ``keys``."""
        return [str(slot) for slot in self.slots(cut)]

    def digest(self) -> str:
        """Hexadecimal text that two plans share when they are for the same model and cut it alike.

        It covers names, shapes and dtypes of all parameters, calls, caches, what crosses each cut, and the versions
        of mlx and mlx-lm.
        """
        text = json.dumps(
            {
                "parameters": self._parameters,
                "versions": [version("mlx"), version("mlx-lm")],
                "layers": [call.layer for call in self.calls],
                "caches": [repr(kind) for kind in self._kinds],
                "cuts": [self._refusals.get(c) or self.describe(c) for c in range(self.n_calls + 1)],
            },
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    # -- caches

    def caches_of(self, first: int, end: int) -> set[CacheAt]:
        """The caches that the calls [first, end) are given or write to."""
        return {at for call in self.calls[first:end] for at in (*call.caches, *call.writes)}

    def mirrors(self, first: int) -> set[CacheAt]:
        """The caches of earlier stages of which a stage that begins with the call ``first`` keeps a copy."""
        return {key.cache for key in self.keys(first) if isinstance(key, SharedKV)}

    def cache_costs(self, first: int, end: int) -> list[CacheCost]:
        """What each cache of a stage with the calls [first, end) costs, copies of shared ones included."""
        return [self._costs[at] for at in sorted(self.caches_of(first, end) | self.mirrors(first))]

    def shared_caches(self) -> set[CacheAt]:
        """The caches that later layers read besides the one that fills them."""
        return {key.cache for keys in self._cuts for key in keys if isinstance(key, SharedKV)}

    def own_costs(self, call: int) -> list[CacheCost]:
        """What the caches cost that this call fills."""
        return [self._costs[at] for at in sorted(self.calls[call].writes)]

    def unread_caches(self) -> set[int]:
        """Entries of the model's list of caches that no layer uses: only the code before the layers does."""
        return set(range(len(self._kinds))) - {e for e, _ in self.caches_of(0, self.n_calls)}

    def _cost(self, at: CacheAt, cache: Any, state: int) -> CacheCost:
        pair = SharedKV(at)
        if (pair, 0) not in self._dims:
            return CacheCost(fixed=state)
        per_token = sum(spec.nbytes for spec in self.pair(at, 1, 1))
        return CacheCost(per_token=per_token, window=window_of(cache))

    # -- for the stages

    def shape(self, key: Any, batch: int, length: int) -> TensorShape:
        """Shape and dtype of a traced value in a step of that size."""
        dims, _, dtype = self._dims[key]
        return TensorShape(sized(dims, batch, length), dtype)

    def pair(self, at: CacheAt, batch: int, length: int) -> list[TensorShape]:
        """Shape and dtype of the keys and of the values that enter a cache in a step of that size."""
        return [self.shape((SharedKV(at), i), batch, length) for i in (0, 1)]

    def has_pair(self, at: CacheAt) -> bool:
        """Whether keys and values enter the cache through ``update_and_fetch``."""
        return (SharedKV(at), 0) in self._dims

    def _slots(self, key: Key) -> Iterator[Slot]:
        if isinstance(key, SharedKV):
            for i, name in enumerate(("keys", "values")):
                yield self._slot(f"new {name} of cache {_dotted(key.cache)}", (key, i))
        elif isinstance(key, Prologue):
            t, path = self.groups[key.group][0]
            yield self._slot(f"argument {_dotted(path)} of call {t}", key)
        elif key.within is None:
            yield self._slot(" ".join(filter(None, ("result", _dotted(key.path[1:]), f"of call {key.call}"))), key)
        else:
            yield self._slot(f"argument {_dotted((*key.within, *key.path))} after call {key.call}", key)

    def _slot(self, name: str, key: Any) -> Slot:
        dims, varies, dtype = self._dims[key]
        return Slot(name, dims, dtype, varies)


def _dotted(path: Sequence[Any]) -> str:
    return ".".join(str(step) for step in path)


def _dims(shape: tuple[int, ...], other: tuple[int, ...], lengths: tuple[int, int]) -> tuple[Dims, bool]:
    """The sizes of the first trace with the step's own among them named, and whether one varies otherwise."""
    if len(shape) != len(other):
        return shape, True
    axes = {
        _BATCHES: Axis.BATCH,
        lengths: Axis.LENGTH,
        (_BATCHES[0] * lengths[0], _BATCHES[1] * lengths[1]): Axis.ROWS,
    }
    pairs = list(zip(shape, other, strict=True))
    return tuple(axes.get(pair, pair[0]) for pair in pairs), any(a != b and (a, b) not in axes for a, b in pairs)


def _liveness(trace: Trace) -> tuple[list[tuple[Key, ...]], dict[int, str]]:
    """For each cut what must cross it, and the reason for each cut that is not possible."""
    n = len(trace.calls)
    group_of = {member: Prologue(g) for g, members in enumerate(trace.groups) for member in members}
    prologue: set[Key] = set()
    later: set[Result | SharedKV] = {key for key in trace.epilogue if not isinstance(key, Prologue)}
    mixed: list[tuple[int, Path, int]] = []  # (call, argument, born): made from the tokens and from a later value
    cuts: list[tuple[Key, ...]] = [()] * (n + 1)
    refusals: dict[int, str] = {}
    for cut in range(n, 0, -1):
        if cut < n:
            call = trace.calls[cut]
            for path, (keys, from_tokens) in call.reads.items():
                values = {key for key in keys if not isinstance(key, Prologue)}
                if from_tokens:
                    prologue.add(group_of[cut, path])
                    mixed += [(cut, path, trace.born(key)) for key in values]
                else:
                    later |= values
            later |= {SharedKV(at) for at in call.caches if trace.writer.get(at, cut) < cut}
        live: set[Key] = {*prologue, *(key for key in later if trace.born(key) < cut)}
        cuts[cut] = tuple(sorted(live, key=_order))
        for key in live:
            if isinstance(key, SharedKV) and (key, 0) not in trace.shapes:
                refusals[cut] = f"cache {_dotted(key.cache)} is shared and has no keys and values that could cross"
        for t, path, born in mixed:
            if born >= cut:
                refusals[cut] = f"argument {_dotted(path)} of call {t} mixes the tokens with a result of call {born}"
    return cuts, refusals


def _order(key: Key) -> tuple[Any, ...]:
    if isinstance(key, Result):
        return 0, key.call, repr(key.path), repr(key.within)
    if isinstance(key, SharedKV):
        return 1, key.cache
    return 2, key.group
