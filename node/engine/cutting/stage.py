"""A contiguous range of a model's layer calls, run by the model's own forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from node.engine.cutting.caches import Cache, CacheCost, alias, batchable, fresh_caches, leaf_caches, tick, trimmable
from node.engine.cutting.ghosts import ghost, parameters, unchanged
from node.engine.cutting.graph import depends_on
from node.engine.cutting.hooks import switch_of
from node.engine.cutting.plan import CutPlan
from node.engine.cutting.trace import CacheAt, Call, Constant, Fetched, Key, Prologue, Result, Same, SharedKV, value_at
from node.engine.cutting.trees import get, leaves, put

Wire = Sequence["mx.array | None"]


class _Cut(BaseException):
    """Raised out of the model's forward once the stage has all that it gives on."""


class ModelStage:
    """The calls [first, end) of a model, and with ``tail`` its epilogue: final norm and head.

    The stages of one ring: ``[0, a)``, ``[a, b)``, …, ``[z, n_calls)`` without tail, then the epilogue
    ``ModelStage(model, plan, n_calls, n_calls, tail=True)`` on the model of the first. The whole model is
    ``ModelStage(model, plan, 0, n_calls, tail=True)``.

    One forward at a time per model; used in the thread that built the model.

    Raises:
        UnsupportedModelError: the model cannot be cut at one of the two ends.
    """

    def __init__(self, model: nn.Module, plan: CutPlan, first: int, end: int, *, tail: bool) -> None:
        self.model, self.plan, self.first, self.end, self.tail = model, plan, first, end, tail
        self._switch = switch_of(model)
        self.inputs: tuple[Key, ...] = plan.keys(first) if first else ()
        self.outputs: tuple[Key, ...] = () if tail else plan.keys(end)
        self.input_slots = plan.slots(first) if first else []
        self.output_slots = [] if tail else plan.slots(end)
        self.mirrors = set() if first == end else plan.mirrors(first)
        own = {e for e, _ in plan.caches_of(first, end) | self.mirrors}
        if first == 0:
            own |= plan.unread_caches()
        # The epilogue reads no cache; whatever the code around the layers wants of one, any is as good.
        self._n_entries = len(fresh_caches(model))
        self._filled = {e for e, _ in plan.shared_caches()} if first == end else set()
        idle = set(range(self._n_entries)) if first == end else plan.unread_caches()
        self._entries, self._phantoms, self._position = alias(model, own, idle)
        # Values made from the tokens may be handed on only to calls behind the end.
        prologue = {key for key in self.outputs if isinstance(key, Prologue)} if first == 0 else set()
        self.last_call = max([end, *(min(t for t, _ in plan.groups[key.group]) + 1 for key in prologue)])
        self.replaced = {member: Prologue(g) for g, members in enumerate(plan.groups) for member in members}

    @property
    def is_epilogue(self) -> bool:
        """Whether it runs no layer: a pure function of what comes over the wire."""
        return self.first == self.end

    @property
    def closes(self) -> bool:
        """Whether what it gives on goes back to the head, to the epilogue."""
        return not self.tail and self.end == self.plan.n_calls

    def make_cache(self) -> list[Cache]:
        """New caches for one sequence: those that the stage fills, copies of shared ones, and one phantom per other
        kind. mlx-lm's operations on a list of caches (merge, extend, filter, extract, trim, copy) apply to it as a
        whole. Empty for an epilogue.
        """
        fresh = fresh_caches(self.model)
        return [fresh[entry] for entry in self._entries]

    def cache_costs(self) -> list[CacheCost]:
        """What each of its caches costs per sequence; phantoms cost next to nothing and are left out."""
        return self.plan.cache_costs(self.first, self.end) if not self.is_epilogue else []

    @property
    def trimmable(self) -> bool:
        """Whether its caches can be cut back to any earlier position at any time."""
        return trimmable(self.make_cache())

    @property
    def batchable(self) -> bool:
        """Whether the caches of several sequences can be merged into a batch."""
        return batchable(self.make_cache())

    def __call__(self, tokens: mx.array, wire: Wire, cache: Sequence[Cache]) -> list[mx.array | None]:
        """One step. Lazy: the caller evaluates the result together with the state of the caches.

        Args:
            tokens: [batch, length]; behind the first stage only the shape matters.
            wire: what the stage before gave, in the order of ``input_slots``; empty for the first.
            cache: from ``make_cache``, or made of such by mlx-lm's operations; advanced by ``length``.

        Returns:
            The tensors for the next stage in the order of ``output_slots``, or with ``tail`` ``[logits]``.

        Raises:
            ValueError: not all tensors of ``input_slots`` are there.

        Any other error, from the model's own code, leaves the caches undefined: drop them.
        """
        return self._run(_Forward(self, tokens, wire, self._expand(cache, tokens)), tokens, cache)

    def needed(self) -> set[str]:
        """Names of the parameters that the stage uses: those of its layers, and what the model's code around the
        layers takes for what the stage gives on (embeddings, norm, head, a neighbour's norm, …).
        """
        calls = self.plan.calls[self.first : self.end]
        own = {id(self.model.layers[call.layer]) for call in calls}
        prefixes = tuple(f"{path}." for path, module in self.model.named_modules() if id(module) in own)
        known = parameters(self.model)
        wire = [mx.zeros(spec.shape, spec.dtype) for spec in (slot.shape(1, 2) for slot in self.input_slots)]
        tokens, cache = mx.zeros((1, 2), mx.int32), self.make_cache()
        with unchanged(self.model):
            forward = _Probe(self, tokens, wire, self._expand(cache, tokens))
            out = self._run(forward, tokens, cache)
            used = [array for array in out if array is not None] + forward.used
        return {name for name in known if name.startswith(prefixes)} | depends_on(known, used)

    def _expand(self, cache: Sequence[Cache], tokens: mx.array) -> list[Cache]:
        """The model's full list of caches."""
        full = fresh_caches(self.model) if len(self._position) < self._n_entries else [None] * self._n_entries
        for entry, position in self._position.items():
            full[entry] = cache[position]
        for entry in self._filled:
            tick(full[entry], *tokens.shape)
        return full

    def _run(self, forward: _Forward, tokens: mx.array, cache: Sequence[Cache]) -> list[mx.array | None]:
        logits: Any = None
        with forward.watching():
            try:
                logits = self._switch.listen(forward, self.model, tokens, cache=forward.caches)
            except _Cut:
                pass
        for i in self._phantoms:
            tick(cache[i], *tokens.shape)
        if self.tail:
            return [logits[0] if isinstance(logits, tuple) else logits]
        return forward.result()


class _Forward:
    """One step of a stage: what came, what was made, and what each call of a layer shall return."""

    def __init__(self, stage: ModelStage, tokens: mx.array, wire: Wire, caches: list[Cache]) -> None:
        self.stage, self.caches = stage, caches
        self.batch, self.length = tokens.shape
        self._t = 0
        if len(wire) != len(stage.input_slots):
            raise ValueError(
                f"{len(stage.input_slots)} tensors cross the cut before call {stage.first}, not {len(wire)}"
            )
        self._given = dict(_unpack(stage.inputs, wire))
        self._made: dict[Key, Any] = {}

    def on_call(self, layer: int, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stand in for the call, or run the layer, or end the forward when nothing more is wanted."""
        stage, t = self.stage, self._t
        self._t += 1
        call = stage.plan.calls[t]
        given = self._prologue(t, call, (args, kwargs))
        if stage.first <= t < stage.end:
            returned = self._real(t, call, run, given)
            for key in stage.outputs:
                if isinstance(key, Result) and key.call == t:
                    self._made[key] = value_at(key, given, returned)
        else:
            returned = self._stand_in(call, given)
        if t + 1 >= stage.last_call and not stage.tail:
            raise _Cut
        return returned

    def result(self) -> list[mx.array | None]:
        """What the stage gives on; values that only pass through come as they came."""
        out: list[mx.array | None] = []
        for wanted in self.stage.outputs:
            value = self._made[wanted] if wanted in self._made else self._given[wanted]
            out += value if isinstance(wanted, SharedKV) else [value]
        return out

    def watching(self) -> _Watch:
        """While it is entered, new keys and values of the caches that others share are noted."""
        keys = [key for key in self.stage.outputs if isinstance(key, SharedKV) and key not in self._given]
        return _Watch([(key, self._cache(key.cache)) for key in keys], self._made)

    def _real(self, t: int, call: Call, run: Callable[..., Any], given: Any) -> Any:
        return run(*given[0], **given[1])

    def _prologue(self, t: int, call: Call, given: Any) -> Any:
        """The arguments, with values from the tokens in place where they came over the wire."""
        for path in call.reads:
            key = self.stage.replaced.get((t, path))
            if key is None:
                continue
            if key in self._given:
                given = put(given, path, self._given[key])
            if key in self.stage.outputs and key not in self._made:
                self._made[key] = get(given, path)
        return given

    def _stand_in(self, call: Call, given: Any) -> Any:
        fetched: dict[CacheAt, Any] = {}
        for at in call.writes & self.stage.mirrors:
            fetched[at] = self._cache(at).update_and_fetch(*self._given[SharedKV(at)])
        return self._imitate(call, given, fetched)

    def _imitate(self, call: Call, given: Any, fetched: dict[CacheAt, Any]) -> Any:
        """What the call returns and changes, made of what is known, and of ghosts where nobody will read it."""
        for where, leaf in call.changes:
            put(get(given, where.within or ()), where.path, self._value(leaf, given, fetched))
        return self._value(call.returns, given, fetched)

    def _value(self, leaf: Any, given: Any, fetched: dict[CacheAt, Any]) -> Any:
        if isinstance(leaf, Constant):
            return leaf.value
        if isinstance(leaf, Same):
            return get(given, leaf.path)
        if isinstance(leaf, Fetched) and leaf.cache in fetched:
            return get(fetched[leaf.cache], leaf.path)
        if isinstance(leaf, (Fetched, Result)):
            known = self._given.get(leaf) if isinstance(leaf, Result) else None
            return self._ghost(leaf) if known is None else known
        if isinstance(leaf, dict):
            return {key: self._value(inner, given, fetched) for key, inner in leaf.items()}
        return type(leaf)(self._value(inner, given, fetched) for inner in leaf)

    def _ghost(self, key: Any) -> mx.array:
        spec = self.stage.plan.shape(key, self.batch, self.length)
        return ghost(spec.shape, spec.dtype)

    def _cache(self, at: CacheAt) -> Cache:
        return leaf_caches(self.caches[at[0]])[at[1]]


class _Probe(_Forward):
    """A step in which no layer runs: it notes what the layers of the stage are given."""

    def __init__(self, stage: ModelStage, tokens: mx.array, wire: Wire, caches: list[Cache]) -> None:
        super().__init__(stage, tokens, wire, caches)
        self.used: list[mx.array] = []

    def _real(self, t: int, call: Call, run: Callable[..., Any], given: Any) -> Any:
        for _, value in leaves(given):
            if isinstance(value, mx.array):
                self.used.append(value)
            elif isinstance(value, nn.Module):
                self.used += [array for _, array in tree_flatten(value.parameters())]
        fetched: dict[CacheAt, Any] = {}
        plan = self.stage.plan
        for at in call.writes:
            if plan.has_pair(at):
                pair = [mx.zeros(spec.shape, spec.dtype) for spec in plan.pair(at, self.batch, self.length)]
                fetched[at] = self._cache(at).update_and_fetch(*pair)
        return self._imitate(call, given, fetched)


class _Watch:
    """Notes the keys and values that enter some caches while it is entered."""

    def __init__(self, watched: Sequence[tuple[SharedKV, Cache]], made: dict[Key, Any]) -> None:
        self._watched, self._made = watched, made

    def __enter__(self) -> None:
        for key, cache in self._watched:
            cache.update_and_fetch = self._noting(key, cache.update_and_fetch)

    def __exit__(self, *error: object) -> None:
        for _, cache in self._watched:
            del cache.update_and_fetch

    def _noting(self, key: SharedKV, original: Callable[..., Any]) -> Callable[..., Any]:
        def update_and_fetch(keys: mx.array, values: mx.array) -> Any:
            self._made[key] = (keys, values)
            return original(keys, values)

        return update_and_fetch


def _unpack(keys: Sequence[Key], wire: Wire) -> Iterator[tuple[Key, Any]]:
    """What came over the wire, by key: keys and values of one cache together."""
    tensors = iter(wire)
    for key in keys:
        yield key, (next(tensors), next(tensors)) if isinstance(key, SharedKV) else next(tensors)
