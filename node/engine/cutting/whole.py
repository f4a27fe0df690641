"""A model that runs in one piece, with the interface of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from node.engine.cutting.caches import Cache, CacheCost, batchable, fresh_caches, leaf_caches, state_bytes, trimmable
from node.engine.cutting.ghosts import make_ghosts, parameters, unchanged
from node.engine.cutting.slots import Slot

_PROBE = 256


class WholeModel:
    """All of a model that cannot be cut: tokens in, logits out. Used like a ``ModelStage`` with a tail."""

    tail = True
    is_epilogue = False
    closes = False

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.input_slots: list[Slot] = []
        self.output_slots: list[Slot] = []

    def make_cache(self) -> list[Cache]:
        """New caches for one sequence."""
        return fresh_caches(self.model)

    @property
    def trimmable(self) -> bool:
        """Whether its caches can be cut back to any earlier position at any time."""
        return trimmable(self.make_cache())

    @property
    def batchable(self) -> bool:
        """Whether the caches of several sequences can be merged into a batch."""
        return batchable(self.make_cache())

    def __call__(self, tokens: mx.array, wire: Sequence[mx.array | None], cache: Sequence[Cache]) -> list[Any]:
        """One step: ``[logits]`` for tokens of shape [batch, length]; lazy. ``wire`` is empty."""
        logits = self.model(tokens, cache=list(cache))
        return [logits[0] if isinstance(logits, tuple) else logits]

    def needed(self) -> set[str]:
        """Names of all parameters."""
        return set(parameters(self.model))

    def cache_costs(self) -> list[CacheCost]:
        """What the caches cost, measured on one lazy step: their growth cannot be told from what is constant."""
        cache = self.make_cache()
        with unchanged(self.model):
            make_ghosts(self.model)
            self(mx.zeros((1, _PROBE), mx.int32), (), cache)
        return [CacheCost(per_token=-(-state_bytes(leaf) // _PROBE)) for entry in cache for leaf in leaf_caches(entry)]
