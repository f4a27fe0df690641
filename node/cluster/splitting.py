"""Cut a model over a given ring of nodes, so that the slowest stage is as fast as whole layers and memory allow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from node.cluster.costs import UNMEASURED_BANDWIDTH, ModelCosts, NodeFacts

_HEADROOM_BYTES = 64 * 1024 * 1024
_HEADROOM_SHARE = 0.05
_HALVINGS = 40


def headroom(weight_bytes: int) -> int:
    """Bytes that a stage needs besides weights and KV: activations, temporaries, what the allocator holds back."""
    return _HEADROOM_BYTES + int(_HEADROOM_SHARE * weight_bytes)


def needed_memory(model: ModelCosts, first: int, end: int, context_tokens: int) -> int:
    """Bytes that must be free for a stage with the layers [first, end)."""
    weights = model.weights(first, end)
    return weights + model.kv(first, end, context_tokens) + headroom(weights)


def stage_seconds(model: ModelCosts, first: int, end: int, node: NodeFacts) -> float:
    """Predicted time of one decode step of a stage: all its weights are read once."""
    return model.weights(first, end) / (node.memory_bandwidth_bytes_per_second or UNMEASURED_BANDWIDTH)


class Splitter:
    """Cuts one model, for one length of context, over any rings of nodes."""

    def __init__(self, model: ModelCosts, context_tokens: int) -> None:
        self._n = model.n_layers
        self._head = model.head_bytes
        kv = (model.kv(i, i + 1, context_tokens) for i in range(self._n))
        self._weights = list(accumulate(model.layer_bytes, initial=0))
        self._kv = list(accumulate(kv, initial=0))
        self._cuts = [0, *(i + 1 for i, wire in enumerate(model.wire_bytes[:-1]) if wire is not None), self._n]

    def split(self, ring: Sequence[NodeFacts]) -> list[int] | None:
        """The layer at which each stage ends, in ring order, each stage with one layer at least.

        The longest time of a stage is the least possible. Where whole layers leave a choice, cuts lie as near as
        possible to shares in proportion to bandwidth. None when no cut fits into what the nodes have free.
        """
        speeds = [node.memory_bandwidth_bytes_per_second or UNMEASURED_BANDWIDTH for node in ring]
        if self._last_ends(ring, speeds, float("inf")) is None:
            return None
        low, high = 0.0, (self._weights[-1] + self._head) / min(speeds) * (1 + 1e-9)  # of floats' rounding
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self._last_ends(ring, speeds, middle) is None:
                low = middle
            else:
                high = middle
        last = self._last_ends(ring, speeds, high)
        assert last is not None
        first = self._first_ends(ring, speeds, high)
        return self._nearest(ring, speeds, high, first, last)

    def _fits(self, first: int, end: int, node: NodeFacts, speed: float, seconds: float) -> bool:
        weights = self._weights[end] - self._weights[first] + (self._head if first == 0 else 0)
        needed = weights + self._kv[end] - self._kv[first] + headroom(weights)
        return needed <= node.free_memory_bytes and weights <= seconds * speed

    def _last_ends(self, ring: Sequence[NodeFacts], speeds: Sequence[float], seconds: float) -> list[int] | None:
        """The furthest that each stage can reach when all before it reach as far as they can; None: not to the end."""
        ends: list[int] = []
        at = 0
        for i, (node, speed) in enumerate(zip(ring, speeds, strict=True)):
            stop = len(self._cuts) - (len(ring) - i - 1)
            end = at
            while end + 1 < stop and self._fits(self._cuts[at], self._cuts[end + 1], node, speed, seconds):
                end += 1
            if end == at:
                return None
            at = end
            ends.append(at)
        return ends if at == len(self._cuts) - 1 else None

    def _first_ends(self, ring: Sequence[NodeFacts], speeds: Sequence[float], seconds: float) -> list[int]:
        """The nearest end of each stage from which the stages behind it still come to the end of the model."""
        ends = [len(self._cuts) - 1]
        for i in range(len(ring) - 1, 0, -1):
            first = ends[0]
            while first - 1 >= i and self._fits(
                self._cuts[first - 1], self._cuts[ends[0]], ring[i], speeds[i], seconds
            ):
                first -= 1
            ends.insert(0, first)
        return ends

    def _nearest(
        self,
        ring: Sequence[NodeFacts],
        speeds: Sequence[float],
        seconds: float,
        first_ends: Sequence[int],
        last_ends: Sequence[int],
    ) -> list[int]:
        total, reached, ends = self._weights[-1] + self._head, 0.0, [0]
        for node, speed, low, high in zip(ring, speeds, first_ends, last_ends, strict=True):
            reached += speed / sum(speeds)
            ideal = reached * total - self._head
            allowed = [
                end
                for end in range(max(low, ends[-1] + 1), high + 1)
                if self._fits(self._cuts[ends[-1]], self._cuts[end], node, speed, seconds)
            ]
            ends.append(min(allowed, key=lambda end: (abs(self._weights[self._cuts[end]] - ideal), end)))
        return [self._cuts[end] for end in ends[1:]]
