"""The KV caches of the sequences on one stage, alone or batched in lanes.

A sequence that runs alone keeps mlx-lm's plain caches; as soon as a step has several rows, their caches are merged
into batch caches with mlx-lm's own operations (merge, extend, filter, extract). What is done follows from the rows of
the step alone, so all stages of a ring agree without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

Cache = Any
"""One of mlx-lm's cache objects."""


@dataclass(slots=True)
class _Lane:
    rows: list[int]
    caches: list[Cache]


class Sequences:
    """Caches by sequence id; lives in the MLX thread."""

    def __init__(self, make_cache: Callable[[], list[Cache]]) -> None:
        self._make_cache = make_cache
        self._length: dict[int, int] = {}
        self._alone: dict[int, list[Cache]] = {}
        self._lane_of: dict[int, int] = {}
        self._lanes: dict[int, _Lane] = {}

    def __len__(self) -> int:
        return len(self._length)

    def __contains__(self, sequence_id: int) -> bool:
        return sequence_id in self._length

    @property
    def byte_count(self) -> int:
        """Bytes that the caches hold now."""
        lists = [*self._alone.values(), *(lane.caches for lane in self._lanes.values())]
        return sum(_bytes(cache) for caches in lists for cache in caches)

    def length(self, sequence_id: int) -> int:
        """Positions that the sequence holds.

        Raises:
            KeyError: no such sequence.
        """
        return self._length[sequence_id]

    def open(self, sequence_id: int) -> None:
        """Makes room for a sequence of length 0; opening one twice changes nothing."""
        if sequence_id not in self._length:
            self._length[sequence_id] = 0
            self._alone[sequence_id] = self._make_cache()

    def close(self, sequence_id: int) -> None:
        """Frees a sequence; one that is not there is none to free."""
        if self._length.pop(sequence_id, None) is None:
            return
        self._alone.pop(sequence_id, None)
        lane_id = self._lane_of.pop(sequence_id, None)
        if lane_id is not None:
            lane = self._lanes[lane_id]
            self._keep(lane_id, [row for row in lane.rows if row != sequence_id])

    def truncate(self, sequence_id: int, length: int) -> None:
        """Cuts a sequence back to ``length`` positions.

        Raises:
            KeyError: no such sequence.
            ValueError: its caches cannot be cut back (recurrent or wrapped ones).
        """
        excess = self._length[sequence_id] - length
        if excess <= 0:
            return
        caches = self._take_alone(sequence_id)
        if not all(cache.is_trimmable() for cache in caches):
            raise ValueError("caches of this model cannot be cut back")
        for cache in caches:
            cache.trim(excess)
        self._length[sequence_id] = length

    def gather(self, lane_id: int, rows: Sequence[int]) -> list[Cache]:
        """The caches for a step whose rows are ``rows``, in that order; sequences that leave the lane keep theirs."""
        if len(rows) == 1:
            return self._take_alone(rows[0])
        wanted = list(rows)
        lane = self._lanes.get(lane_id)
        if lane is not None and lane.rows == wanted:
            return lane.caches
        if lane is not None:
            for row in [row for row in lane.rows if row not in wanted]:
                self._take_alone(row)
            lane = self._lanes.get(lane_id)
        staying = lane.rows if lane is not None else []
        new = [row for row in wanted if row not in staying]
        if new:
            singles = [self._take_alone(row) for row in new]
            merged = [column[0].merge(list(column)) for column in zip(*singles, strict=True)]
            for row in new:
                del self._alone[row]
                self._lane_of[row] = lane_id
            if lane is None:
                lane = self._lanes[lane_id] = _Lane(new, merged)
            else:
                for cache, other in zip(lane.caches, merged, strict=True):
                    cache.extend(other)
                lane.rows = staying + new
        assert lane is not None
        if lane.rows != wanted:
            self._keep(lane_id, wanted)
        return lane.caches

    def advance(self, rows: Iterable[int], count: int) -> None:
        """Notes that ``count`` more positions of each row are in its cache."""
        for row in rows:
            self._length[row] += count

    def _take_alone(self, sequence_id: int) -> list[Cache]:
        lane_id = self._lane_of.pop(sequence_id, None)
        if lane_id is not None:
            lane = self._lanes[lane_id]
            row = lane.rows.index(sequence_id)
            self._alone[sequence_id] = [cache.extract(row) for cache in lane.caches]
            mx.eval([cache.state for cache in self._alone[sequence_id]])
            self._keep(lane_id, [other for other in lane.rows if other != sequence_id])
        return self._alone[sequence_id]

    def _keep(self, lane_id: int, rows: list[int]) -> None:
        """Makes ``rows`` (all of them in the lane) the rows of the lane, in this order."""
        lane = self._lanes[lane_id]
        if not rows:
            del self._lanes[lane_id]
            return
        keep = [lane.rows.index(row) for row in rows]
        for cache in lane.caches:
            cache.filter(keep)
        lane.rows = rows


def _bytes(cache: Cache) -> int:
    return 0 if cache.empty() else int(cache.nbytes)
