"""Load a part of a checkpoint: only its tensors are read, only the files that hold them are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from node.engine.cutting import CacheCost, CutPlan, ModelStage, WholeModel, make_ghosts, parameters
from node.engine.cutting.graph import depends_on
from node.engine.headers import Headers, read_header, read_headers
from node.engine.skeleton import brief, build_model, model_type_of
from tandem.errors import CheckpointError, UnsupportedModelError

Progress = Callable[[int, int], None]
"""Called with the bytes loaded so far and the bytes to load; an exception from it ends the loading."""

_CASTS = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}


@dataclass(frozen=True)
class LayerSizes:
    """What the parts of a model weigh in memory, for the planner; in bytes.

    ``head`` is what the head owns besides its layers: embeddings, final norm, output. A node may own a little more
    than its layers where the model's code wants a neighbour's norm.
    """

    layers: tuple[int, ...]
    head: int
    caches: tuple[tuple[CacheCost, ...], ...]

    @property
    def total(self) -> int:
        """All parameters that the model uses."""
        return sum(self.layers) + self.head

    def stage(self, first: int, end: int) -> int:
        """Parameters of a stage with the layers [first, end); the first stage is the head."""
        return sum(self.layers[first:end]) + (self.head if first == 0 else 0)

    def kv(self, first: int, end: int, tokens: int) -> int:
        """Caches of the layers [first, end) for one sequence of that many tokens."""
        return sum(cost.nbytes(tokens) for layer in self.caches[first:end] for cost in layer)

    @property
    def kv_per_token(self) -> tuple[int, ...]:
        """Growth of each layer's caches with one more token, while no window is full."""
        return tuple(sum(cost.per_token for cost in layer) for layer in self.caches)


@dataclass
class LoadedStage:
    """A part of a model in memory.

    ``segments`` run in order, one for all models but those that loop over their layers (each later one is a further
    trip round the ring). The head of a ring has the ``epilogue``. A whole model is one segment that ends in logits,
    without a separate epilogue; where ``plan`` is None, it cannot be cut.
    """

    model: nn.Module
    config: dict[str, Any]
    plan: CutPlan | None
    segments: list[ModelStage] | list[WholeModel]
    epilogue: ModelStage | None
    nbytes: int

    @property
    def cache_costs(self) -> list[CacheCost]:
        """What each of its caches costs per sequence, copies of caches that earlier stages fill included."""
        return [cost for stage in self.segments for cost in stage.cache_costs()]


class Checkpoint:
    """A model's folder, of whose weight files perhaps only some are here.

    Making one builds the skeleton of the whole model with a ghost for each tensor: no weights are read. To be used in
    one thread, the one that will load and run.

    Args:
        folder: holds ``config.json`` and the weight files, in mlx-lm's layout.
        headers: what the whole checkpoint holds; without them they are read from the files, which then must all be
            there.
        dtype: "float32", "float16" or "bfloat16", to which floating parameters are cast; None leaves them.

    Raises:
        CheckpointError: a file is missing or damaged, or the tensors do not make this model; names it.
        UnsupportedModelError: mlx-lm does not know the architecture; names it.
    """

    def __init__(self, folder: Path, *, headers: Headers | None = None, dtype: str | None = None) -> None:
        if dtype is not None and dtype not in _CASTS:
            raise ValueError(f"dtype must be one of {', '.join(_CASTS)}, not {dtype}")
        self.folder = folder
        self.headers = headers or read_headers(folder)
        self._dtype = None if dtype is None else _CASTS[dtype]
        self.model_type = model_type_of(folder)
        self._tensors: dict[str, mx.array] = {}
        self.model, self.config = build_model(folder, (), self.headers, self._tensors)
        self._uncast = parameters(self.model)
        self._cast(self.model)
        make_ghosts(self.model)

    @cached_property
    def plan(self) -> CutPlan:
        """Where the model can be cut. Raises UnsupportedModelError when nowhere."""
        return CutPlan(self.model)

    @property
    def n_layers(self) -> int:
        """Decoder layers of the model."""
        return len(self.model.layers)

    def sizes(self) -> LayerSizes:
        """What each part of the model weighs, from the headers alone."""
        known = parameters(self.model)
        paths = {id(module): path for path, module in self.model.named_modules()}
        prefixes = [f"{paths[id(layer)]}." for layer in self.model.layers]
        inside = [[name for name in known if name.startswith(prefix)] for prefix in prefixes]
        (whole,), _, plan = self._stages(0, self.n_layers)
        outside = whole.needed() - {name for names in inside for name in names}
        if plan is None:
            costs = [whole.cache_costs(), *[[]] * (self.n_layers - 1)]  # unknown by layer: it cannot be cut anyway
        else:
            costs = [
                [cost for t, call in enumerate(plan.calls) if call.layer == layer for cost in plan.own_costs(t)]
                for layer in range(self.n_layers)
            ]
        return LayerSizes(
            tuple(sum(known[name].nbytes for name in names) for names in inside),
            sum(known[name].nbytes for name in outside),
            tuple(tuple(layer) for layer in costs),
        )

    def needed_tensors(self, first: int, end: int) -> set[str]:
        """Names of the checkpoint's tensors behind a stage with the layers [first, end)."""
        segments, epilogue, _ = self._stages(first, end)
        return depends_on(self._tensors, [self._uncast[name] for name in _needed(segments, epilogue)])

    def needed_files(self, first: int, end: int) -> list[str]:
        """The weight files that a stage with the layers [first, end) needs, from the headers alone."""
        return sorted({self.headers.tensors[name].file for name in self.needed_tensors(first, end)})

    def load(self, first: int, end: int, *, progress: Progress | None = None) -> LoadedStage:
        """Read the tensors of a stage with the layers [first, end), parameter by parameter; the first is the head.

        Everything else stays a ghost. A model that cannot be cut loads as a whole only.

        Raises:
            CheckpointError: a file that the stage needs is missing or damaged; names it.
            UnsupportedModelError: the model cannot be cut at ``first`` or ``end``.
        """
        files = self.needed_files(first, end)
        for file in files:
            if read_header(self.folder / file) != self.headers.of_file(file):
                raise CheckpointError(f"{self.folder / file} is not the file that the checkpoint's headers describe")
        tensors: dict[str, mx.array] = {}
        model, config = build_model(self.folder, files, self.headers, tensors)
        tensors.clear()
        self._cast(model)
        segments, epilogue, plan = self._stages(first, end, model)
        needed = _needed(segments, epilogue)
        make_ghosts(model, keep=needed)
        nbytes = _read({name: value for name, value in parameters(model).items() if name in needed}, progress, self)
        return LoadedStage(model, config, plan, segments, epilogue, nbytes)

    def _stages(
        self, first: int, end: int, model: nn.Module | None = None
    ) -> tuple[list[Any], ModelStage | None, CutPlan | None]:
        """Segments, epilogue and plan of a stage; on the skeleton unless a model is given."""
        model = model or self.model
        if not 0 <= first < end <= self.n_layers:
            raise ValueError(f"layers [{first}, {end}) of {self.n_layers}")
        whole = first == 0 and end == self.n_layers
        try:
            plan = self.plan
        except UnsupportedModelError:
            if not whole:
                raise
            return [WholeModel(model)], None, None
        runs = plan.segments([(0, first), (first, end), (end, self.n_layers)])
        segments = [ModelStage(model, plan, a, b, tail=whole) for part, a, b in runs if part == 1]
        n = plan.n_calls
        return segments, ModelStage(model, plan, n, n, tail=True) if first == 0 and not whole else None, plan

    def _cast(self, model: nn.Module) -> None:
        """Cast floating parameters, lazily; those that the model wants in full precision are never narrowed."""
        if self._dtype is None:
            return
        may_narrow = getattr(model, "cast_predicate", lambda name: True)
        floating = {n: v for n, v in parameters(model).items() if mx.issubdtype(v.dtype, mx.floating)}
        cast = {n: v for n, v in floating.items() if v.dtype.size <= self._dtype.size or may_narrow(n)}
        model.update(tree_unflatten([(name, value.astype(self._dtype)) for name, value in cast.items()]))


def _needed(segments: Sequence[Any], epilogue: ModelStage | None) -> set[str]:
    return set().union(*(stage.needed() for stage in [*segments, *([epilogue] if epilogue else [])]))


def _read(values: Mapping[str, mx.array], progress: Progress | None, checkpoint: Checkpoint) -> int:
    """Evaluate the parameters one by one, so that what is temporary stays small. Returns their bytes."""
    total, done = sum(value.nbytes for value in values.values()), 0
    for name, value in values.items():
        try:
            mx.eval(value)
        except RuntimeError as error:
            raise CheckpointError(f"{checkpoint.folder}: reading {name} failed: {brief(error)}") from error
        done += value.nbytes
        if progress is not None:
            progress(done, total)
        mx.clear_cache()
    return total
