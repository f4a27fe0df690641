"""The facts that a plan is made from: what a model weighs, what a node has, how fast a link is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class CacheCost(Protocol):
    """What one cache takes; the engine's ``CacheCost`` is one."""

    def nbytes(self, tokens: int, /) -> int:
        """Bytes for one sequence of that many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """What the parts of a model cost.

    Args:
        model_id: names the model in messages.
        model_type: names its architecture in messages.
        layer_bytes: weights of each decoder layer.
        head_bytes: weights that the head has besides its layers: embeddings, final norm, output.
        caches: the caches of each layer.
        wire_bytes: one per layer: what crosses a cut behind it per token, None where the model cannot be cut. The last
            is what returns to the head.
    """

    model_id: str
    model_type: str
    layer_bytes: Sequence[int]
    head_bytes: int
    caches: Sequence[Sequence[CacheCost]]
    wire_bytes: Sequence[int | None]

    def __post_init__(self) -> None:
        if not len(self.layer_bytes) == len(self.caches) == len(self.wire_bytes) > 0:
            raise ValueError("layer_bytes, caches and wire_bytes need one entry per layer")

    @property
    def n_layers(self) -> int:
        """Decoder layers."""
        return len(self.layer_bytes)

    def weights(self, first: int, end: int) -> int:
        """Bytes of the weights of a stage with the layers [first, end); the first stage is the head."""
        return sum(self.layer_bytes[first:end]) + (self.head_bytes if first == 0 else 0)

    def kv(self, first: int, end: int, tokens: int) -> int:
        """Bytes of the caches of the layers [first, end) for one sequence of that many tokens."""
        return sum(cache.nbytes(tokens) for layer in self.caches[first:end] for cache in layer)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node has: bytes that are free for weights and KV, and measured memory bandwidth (0: not measured)."""

    node_id: str
    name: str
    free_memory_bytes: int
    memory_bandwidth_bytes_per_second: int


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What was measured between two nodes: seconds one way for a small message, and bytes per second."""

    latency_seconds: float
    bandwidth_bytes_per_second: float

    def seconds(self, nbytes: int) -> float:
        """How long that many bytes take to the other end."""
        return self.latency_seconds + nbytes / self.bandwidth_bytes_per_second


UNMEASURED_LINK = LinkFacts(0.0005, 100e6)
"""Stands in for a link that nobody has probed: Ethernet on a usual day."""

UNMEASURED_BANDWIDTH = 50_000_000_000
"""Stands in for a node's unmeasured memory bandwidth, in bytes per second: a plain machine."""


def size_text(nbytes: int) -> str:
    """Bytes for people, in powers of 1000: "12.3 GB"."""
    size, units = float(nbytes), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 999.95 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"
