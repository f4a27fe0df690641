"""One sequence in the scheduler's hands, whom it belongs to, and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from node.engine.head import Row, Sample
from node.engine.sampling import RowSampler
from tandem.errors import TandemError


class Client(Protocol):
    """Who a sequence belongs to. Called on the event loop; must not wait."""

    def on_prefill(self, processed: int) -> None:
        """``processed`` tokens of the prompt are in the cache."""

    def on_sample(self, sample: Sample) -> bool:
        """A token; False when the sequence shall end here (a stop string)."""

    def on_failure(self, error: TandemError) -> None:
        """The sequence is over, badly."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the scheduler may do at once; ``kv_tokens`` are the positions that fit on the tightest stage."""

    kv_tokens: int
    prefill_chunk: int = 512
    max_running: int = 64
    max_waiting: int = 256
    max_prefilling: int = 4
    max_rows: int = 32
    batchable: bool = True


@dataclass(eq=False, slots=True)
class Ticket:
    """One sequence in the scheduler's hands.

    ``tokens`` are the prompt and what was sampled, ``processed`` how many of them are in the caches or on their way.
    All but the last are prefilled; the row that decodes feeds that one.
    """

    sequence_id: int
    generation_id: str
    tokens: list[int]
    reserve: int
    max_tokens: int
    stop_ids: frozenset[int]
    sampler: RowSampler
    client: Client
    processed: int = 0
    sampled: int = 0
    opened: bool = False
    over: bool = False

    @property
    def prefilled(self) -> bool:
        """Whether the sequence can decode."""
        return self.processed >= len(self.tokens) - 1

    def row(self) -> Row:
        """The row that decodes it."""
        tokens, left = self.tokens, self.max_tokens - self.sampled
        return Row(self.sequence_id, tokens[-1], len(tokens) - 1, left, self.stop_ids, self.sampler)


@dataclass(frozen=True, slots=True)
class SchedulerStatistics:
    """Live figures of one scheduler."""

    waiting: int
    prefilling: int
    decoding: int
    reserved_tokens: int
    steps: int
