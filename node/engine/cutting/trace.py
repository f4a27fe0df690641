"""One lazy forward of a model that records what each layer is given, reads from caches, and gives on.

Every result of a layer, and every pair of keys and values that enters a cache, is replaced by a marker array; the lazy
graph then says which markers, and whether the tokens, reach each later layer and the logits. Nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from node.engine.cutting.caches import Cache, contents, fresh_caches, leaf_caches, same_contents, state_bytes
from node.engine.cutting.graph import ancestors
from node.engine.cutting.hooks import switch_of
from node.engine.cutting.trees import Path, get, is_cache, is_state_object, leaves, mutable_state, put
from tandem.errors import UnsupportedModelError

CacheAt = tuple[int, int]  # entry of the model's list of caches, leaf inside that entry


@dataclass(frozen=True)
class Result:
    """What a call returned, at a path that begins with "returned"; or put at ``path`` into its argument ``within``."""

    call: int
    path: Path
    within: Path | None = None


@dataclass(frozen=True)
class SharedKV:
    """The new keys and values that entered a cache."""

    cache: CacheAt


@dataclass(frozen=True)
class Prologue:
    """A value that was made from the tokens before the layers, and that several calls may be given."""

    group: int


Key = Result | SharedKV | Prologue


@dataclass(frozen=True)
class Same:
    """A call returns its own argument."""

    path: Path


@dataclass(frozen=True)
class Constant:
    """A call returns something that is no array."""

    value: Any


@dataclass(frozen=True)
class Fetched:
    """A call returns what a cache gave it."""

    cache: CacheAt
    path: Path


@dataclass
class Call:
    """One call of a layer."""

    layer: int
    caches: list[CacheAt]  # that it was given
    writes: set[CacheAt]
    reads: dict[Path, tuple[frozenset[Key], bool]] = field(default_factory=dict)  # argument: (keys, tokens too?)
    returns: Any = None  # what it returned, with Result, Same, Constant and Fetched for leaves
    changes: list[tuple[Result, Any]] = field(default_factory=list)  # (where, leaf): put into mutable arguments


class Trace:
    """The record of one forward of ``batch`` × ``length`` tokens.

    Raises UnsupportedModelError when the layers are not called as layers, return what cannot be carried, or when two
    calls write to one cache.
    """

    def __init__(self, model: nn.Module, batch: int, length: int) -> None:
        self.calls: list[Call] = []
        self.shapes: dict[Any, tuple[tuple[int, ...], mx.Dtype]] = {}  # of Result, Prologue, Fetched, (SharedKV, 0|1)
        self.cache_bytes: dict[CacheAt, int] = {}  # per sequence, at the end
        recorder = _Recorder(self, model)
        tokens = mx.zeros((batch, length), mx.int32)
        logits = switch_of(model).listen(recorder, model, tokens, cache=recorder.caches)
        if not self.calls:
            raise UnsupportedModelError("the model never calls its layers as layer(…)")
        self.writer: dict[CacheAt, int] = {}
        for t, call in enumerate(self.calls):
            for at in call.writes:
                if at in self.writer:
                    raise UnsupportedModelError(f"cache {at} is written by calls {self.writer[at]} and {t}")
                self.writer[at] = t
        for at, cache in recorder.leaf_caches():
            self.cache_bytes[at] = state_bytes(cache) // batch
        self.groups: list[list[tuple[int, Path]]] = []
        self.epilogue: frozenset[Key] = frozenset()  # what norm and head are computed from
        self.head_reads_tokens = False
        self._analyse(recorder, tokens, logits[0] if isinstance(logits, tuple) else logits)

    def born(self, key: Result | SharedKV) -> int:
        """The call that makes the value."""
        return key.call if isinstance(key, Result) else self.writer[key.cache]

    def _analyse(self, recorder: _Recorder, tokens: mx.array, logits: mx.array) -> None:
        named = {str(i): marker for i, (_, marker) in enumerate(recorder.markers)} | {"tokens": tokens}
        origins = ancestors(named, [*(array for *_, array in recorder.arguments), logits])
        split = [
            (frozenset(recorder.markers[int(name)][0] for name in names if name != "tokens"), "tokens" in names)
            for names in origins
        ]
        groups: dict[int, list[tuple[int, Path]]] = {}
        for (t, path, array), (keys, from_tokens) in zip(recorder.arguments, split[:-1], strict=True):
            self.calls[t].reads[path] = (keys, from_tokens)
            if from_tokens:
                groups.setdefault(id(array), []).append((t, path))
                self.shapes[t, path] = (tuple(array.shape), array.dtype)
        for members in groups.values():
            if any(t > 0 for t, _ in members):
                self.shapes[Prologue(len(self.groups))] = self.shapes[members[0]]
                self.groups.append(members)
        self.epilogue, self.head_reads_tokens = split[-1]


class _Recorder:
    """Listens to the calls of a trace. It keeps every array that it saw alive, so that ids stay unique."""

    def __init__(self, trace: Trace, model: nn.Module) -> None:
        self.trace = trace
        self.caches: list[Cache] = fresh_caches(model)
        self.markers: list[tuple[Key, mx.array]] = []
        self.arguments: list[tuple[int, Path, mx.array]] = []
        self._alive: list[Any] = []
        self._where = {id(cache): at for at, cache in self.leaf_caches()}
        self._fetched: dict[int, Fetched] = {}
        self._writes: set[CacheAt] = set()
        for at, cache in self.leaf_caches():
            if hasattr(cache, "update_and_fetch"):
                self._watch(cache, at)

    def leaf_caches(self) -> list[tuple[CacheAt, Cache]]:
        """Every leaf cache with its place."""
        return [((e, i), leaf) for e, entry in enumerate(self.caches) for i, leaf in enumerate(leaf_caches(entry))]

    def on_call(self, layer: int, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the layer and give markers on in place of what it made."""
        t, given = len(self.trace.calls), (args, kwargs)
        call = Call(layer, [], set())
        own: dict[int, Path] = {}
        caches: list[Cache] = []
        for path, value in leaves(given):
            self._alive.append(value)
            if isinstance(value, mx.array):
                self.arguments.append((t, path, value))
                own.setdefault(id(value), path)
            elif is_cache(value):
                caches += [leaf for leaf in leaf_caches(value) if id(leaf) in self._where]
        call.caches = [self._where[id(cache)] for cache in caches]
        boxes = mutable_state(given)
        inside = [{path: id(value) for path, value in leaves(box)} for _, box in boxes]
        before = [contents(cache) for cache in caches]
        self._writes = call.writes
        out = run(*args, **kwargs)
        self._writes = set()
        call.writes |= {
            self._where[id(cache)]
            for cache, old in zip(caches, before, strict=True)
            if not same_contents(old, contents(cache))
        }
        self.trace.calls.append(call)
        for (within, box), old_ids in zip(boxes, inside, strict=True):
            for path, value in list(leaves(box)):
                if isinstance(value, mx.array) and old_ids.get(path) != id(value):
                    where = Result(t, path, within)
                    leaf, marker = self._mark(where, value, {})
                    put(box, path, marker)
                    call.changes.append((where, leaf))
        handed_on = {id(box): path for path, box in boxes}
        call.returns, marked = self._mark_all(Result(t, ("returned",)), out, own, handed_on)
        return marked

    def _mark_all(self, where: Result, value: Any, own: dict[int, Path], boxes: dict[int, Path]) -> tuple[Any, Any]:
        """What the call returned as a template, and the same with markers in it."""
        if id(value) in boxes:
            return Same(boxes[id(value)]), value
        if isinstance(value, mx.array):
            return self._mark(where, value, own)
        if isinstance(value, (list, tuple, dict)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            pairs = {k: self._mark_all(Result(where.call, (*where.path, k)), v, own, boxes) for k, v in items}
            templates, marked = ({k: pair[i] for k, pair in pairs.items()} for i in (0, 1))
            if isinstance(value, dict):
                return templates, marked
            return type(value)(templates.values()), type(value)(marked.values())
        if is_state_object(value) or is_cache(value):
            raise UnsupportedModelError(f"a layer returns a {type(value).__name__}, which cannot be carried")
        return Constant(value), value

    def _mark(self, where: Result, value: mx.array, own: dict[int, Path]) -> tuple[Any, mx.array]:
        self._alive.append(value)
        if id(value) in self._fetched:
            fetched = self._fetched[id(value)]
            self.trace.shapes[fetched] = (tuple(value.shape), value.dtype)
            return fetched, value
        if id(value) in own:
            return Same(own[id(value)]), value
        self.trace.shapes[where] = (tuple(value.shape), value.dtype)
        return where, self._new_marker(where, value)

    def _new_marker(self, key: Key, value: mx.array) -> mx.array:
        marker = mx.zeros(value.shape, value.dtype)
        self.markers.append((key, marker))
        return marker

    def _watch(self, cache: Cache, at: CacheAt) -> None:
        original = cache.update_and_fetch

        def update_and_fetch(keys: mx.array, values: mx.array) -> Any:
            pair = SharedKV(at)
            for i, array in enumerate((keys, values)):
                self.trace.shapes[pair, i] = (tuple(array.shape), array.dtype)
            self._writes.add(at)
            result = original(self._new_marker(pair, keys), self._new_marker(pair, values))
            self._alive.append((keys, values, result))
            for path, array in leaves(result):
                self._fetched[id(array)] = Fetched(at, path)
            return result

        cache.update_and_fetch = update_and_fetch


def value_at(key: Result, given: Any, returned: Any) -> Any:
    """The value that a key names, from a call's arguments and what it returned."""
    if key.within is None:
        return get(returned, key.path[1:])
    return get(get(given, key.within), key.path)
