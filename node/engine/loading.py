"""From a model's folder to a shard that runs, and to the figures a planner needs; for the MLX thread."""

from __future__ import annotations

import gc
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from node.engine.admission import can_batch, is_admitted, require_admitted
from node.engine.checkpoint import Checkpoint, LayerSizes, Progress
from node.engine.head import HeadShard
from node.engine.headers import Headers
from node.engine.shard import Shard
from tandem.errors import UnsupportedModelError


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a planner must know of a model; ``wire_bytes[i]`` crosses a cut behind layer i per
    token, None where the model cannot be cut."""

    model_type: str
    layers: int
    sizes: LayerSizes
    wire_bytes: tuple[int | None, ...]
    admitted: bool


@dataclass(frozen=True, slots=True)
class LoadedShard:
    """A shard in memory, with what it told about itself."""

    shard: Shard
    weight_bytes: int
    kv_bytes_per_token: int
    trimmable: bool
    batchable: bool
    digest: str


def preferred_cast(folder: Path, choice: str) -> str:
    """What floating parameters are cast to: ``choice``, or for "auto" float32 where there is no GPU, because half
    precision is slower there and some operations do not know it; quantised checkpoints stay as they are."""
    if choice != "auto":
        return choice
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    quantised = "quantization" in config or "quantization_config" in config
    return "" if mx.metal.is_available() or quantised else "float32"


def inspect_model(folder: Path, headers: Headers, cast_to: str) -> ModelFacts:
    """The figures of a model, from its headers alone.

    Raises:
        CheckpointError: a file is missing or damaged.
        UnsupportedModelError: mlx-lm does not know the architecture.
    """
    checkpoint = Checkpoint(folder, headers=headers, dtype=cast_to or None)
    sizes = checkpoint.sizes()
    wire = _wire_bytes(checkpoint)
    return ModelFacts(checkpoint.model_type, checkpoint.n_layers, sizes, wire, is_admitted(checkpoint.model_type))


def plan_digest(folder: Path, headers: Headers, cast_to: str, ranges: list[tuple[int, int]]) -> str:
    """What all stages of a pipeline must agree on, as text: the same on nodes with the same files and versions."""
    return _digest(Checkpoint(folder, headers=headers, dtype=cast_to or None), cast_to, ranges)


def needed_files(folder: Path, headers: Headers, first: int, end: int) -> list[str]:
    """The weight files that a stage with the layers [first, end) needs, from the headers alone."""
    return Checkpoint(folder, headers=headers).needed_files(first, end)


def load_shard(
    folder: Path,
    headers: Headers,
    ranges: list[tuple[int, int]],
    index: int,
    *,
    cast_to: str,
    kv_budget_bytes: int,
    progress: Progress | None = None,
) -> LoadedShard:
    """Loads the layers ``ranges[index]``, runs them once, and gives a shard; index 0 is the head.

    Raises:
        CheckpointError: a file that the stage needs is missing or damaged; names it.
        UnsupportedModelError: the architecture is not admitted to more than one stage; names it.
    """
    checkpoint = Checkpoint(folder, headers=headers, dtype=cast_to or None)
    if len(ranges) > 1:
        require_admitted(checkpoint.model_type)
    first, end = ranges[index]
    loaded = checkpoint.load(first, end, progress=progress)
    if len(loaded.segments) != 1:
        raise UnsupportedModelError(f"{checkpoint.model_type} loops over its layers: it runs on one node only")
    stage = loaded.segments[0]
    if loaded.plan is None:
        per_token = sum(checkpoint.sizes().kv_per_token)
    else:
        per_token = sum(cost.per_token for cost in loaded.cache_costs)
    shard: Shard
    if index == 0:
        shard = HeadShard(stage, loaded.epilogue, kv_bytes_per_token=per_token, kv_budget_bytes=kv_budget_bytes)
    else:
        shard = Shard(stage, kv_bytes_per_token=per_token, kv_budget_bytes=kv_budget_bytes)
    shard.warm_up()
    return LoadedShard(
        shard,
        loaded.nbytes,
        per_token,
        stage.trimmable,
        stage.batchable and can_batch(checkpoint.model_type),
        _digest(checkpoint, cast_to, ranges),
    )


def release() -> None:
    """Gives the memory of models that nobody refers to any more back to the system: a model refers to itself in
    circles, which only the collector breaks."""
    gc.collect()
    mx.clear_cache()


def _wire_bytes(checkpoint: Checkpoint) -> tuple[int | None, ...]:
    """What crosses a cut behind each layer per token; None where the model cannot be cut."""
    try:
        plan = checkpoint.plan
    except UnsupportedModelError:
        return (None,) * checkpoint.n_layers
    behind = {call.layer: t + 1 for t, call in enumerate(plan.calls)}
    out: list[int | None] = []
    for layer in range(checkpoint.n_layers):
        try:
            out.append(plan.wire_bytes(behind[layer]))
        except UnsupportedModelError:
            out.append(None)
    return tuple(out)


def _digest(checkpoint: Checkpoint, cast_to: str, ranges: list[tuple[int, int]]) -> str:
    try:
        cuts = checkpoint.plan.digest()
    except UnsupportedModelError:
        cuts = "whole"
    text = json.dumps([checkpoint.model_type, cast_to, ranges, cuts])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
