"""One node's part of one pipeline: a segment of the model and the caches of its sequences.

Lives in the MLX thread. ``apply`` is a pure function of the log so far: what it does to the caches follows from the
entries alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from node.engine.cutting import ModelStage, Slot, WholeModel
from node.engine.frames import (
    CloseSequence,
    Entry,
    Failure,
    OpenSequence,
    Span,
    SpanError,
    StageStatistics,
    Step,
    Tensor,
    TruncateSequence,
)
from node.engine.sequences import Cache, Sequences
from node.engine.tensors import to_array, to_tensors

log = logging.getLogger(__name__)

_CLEAR_EVERY = 512
"""Decode steps between two returns of MLX's free buffers to the system, as in mlx-lm."""


Stage = ModelStage | WholeModel


class Shard:
    """A stage that takes entries of the log and gives the entries for the next stage.

    Args:
        stage: the segment to run.
        kv_bytes_per_token: of one sequence on this stage.
        kv_budget_bytes: what the caches may take; a sequence that does not fit is not opened and its steps fail with
            ``OUT_OF_KV``.
    """

    def __init__(self, stage: Stage, *, kv_bytes_per_token: int, kv_budget_bytes: int) -> None:
        self._stage = stage
        self._sequences = Sequences(stage.make_cache)
        self._kv_bytes_per_token = kv_bytes_per_token
        self._kv_budget_bytes = kv_budget_bytes
        self._reserved: dict[int, int] = {}
        self._refused: set[int] = set()
        self._statistics = StageStatistics()

    def statistics(self) -> StageStatistics:
        """Live figures, from the MLX thread."""
        self._statistics.live_sequences = len(self._sequences)
        self._statistics.kv_bytes = self._sequences.byte_count
        return replace(self._statistics)

    def apply(self, entry: Entry) -> Entry:
        """Applies one entry and gives what goes to the next stage: a step with this stage's tensors, any other entry
        as it came. Rows that fail are named in the step and travel as zeros; nothing is raised for them."""
        match entry:
            case Step():
                return self._step(entry)
            case OpenSequence():
                self._open(entry)
            case CloseSequence():
                self.close(entry.sequence_id)
            case TruncateSequence():
                if entry.sequence_id in self._sequences:
                    self._sequences.truncate(entry.sequence_id, entry.length)
            case _:
                log.warning("entry %s has no effect here: prefixes are not kept yet", type(entry).__name__)
        return entry

    def close(self, sequence_id: int) -> None:
        """Frees a sequence and its reservation."""
        self._sequences.close(sequence_id)
        self._reserved.pop(sequence_id, None)
        self._refused.discard(sequence_id)

    def clear(self) -> None:
        """Frees every sequence: the pipeline changed its shape or goes away."""
        for sequence_id in list(self._reserved):
            self.close(sequence_id)
        self._refused.clear()
        mx.clear_cache()

    def warm_up(self) -> None:
        """Runs the segment once on zeros, so that the first request does not pay for what is made on first use."""
        specs = [slot.shape(1, 1) for slot in self._stage.input_slots]
        wire: Arrays = [mx.zeros(spec.shape, spec.dtype) for spec in specs]
        out = self._stage(mx.zeros((1, 1), mx.int32), wire, self._stage.make_cache())
        mx.eval([array for array in out if array is not None])

    def _open(self, entry: OpenSequence) -> None:
        needed = entry.max_tokens * self._kv_bytes_per_token
        if sum(self._reserved.values()) + needed > self._kv_budget_bytes:
            self._refused.add(entry.sequence_id)
            return
        self._reserved[entry.sequence_id] = needed
        self._sequences.open(entry.sequence_id)

    def _step(self, step: Step) -> Step:
        failures = {failure.sequence_id: failure for failure in step.failures}
        for span in step.spans:
            if span.sequence_id not in failures and (failure := self._unfit(span)) is not None:
                failures[span.sequence_id] = failure
        good = [row for row, span in enumerate(step.spans) if span.sequence_id not in failures]
        tensors: tuple[Tensor, ...] = ()
        if good:
            try:
                tensors = self._forward(step, good)
            except Exception as error:
                log.exception("step %d failed", step.step_id)
                for row in good:
                    span = step.spans[row]
                    failures[span.sequence_id] = self._broken(span.sequence_id, error)
        return replace(step, tensors=tensors, failures=tuple(failures.values()))

    def _unfit(self, span: Span) -> Failure | None:
        sequence_id = span.sequence_id
        if sequence_id in self._refused:
            message = f"no room for the caches of sequence {sequence_id}: {self._kv_budget_bytes} bytes are all in use"
            return Failure(sequence_id, SpanError.OUT_OF_KV, 0, message)
        if sequence_id not in self._sequences:
            return Failure(sequence_id, SpanError.UNKNOWN_SEQUENCE, 0, f"sequence {sequence_id} is not open")
        length = self._sequences.length(sequence_id)
        if length != span.position:
            message = f"sequence {sequence_id} holds {length} positions, the step begins at {span.position}"
            return Failure(sequence_id, SpanError.POSITION_MISMATCH, length, message)
        return None

    def _broken(self, sequence_id: int, error: Exception) -> Failure:
        """After an error in the middle of a forward the caches of its rows are in no known state: they go."""
        self._sequences.close(sequence_id)
        return Failure(sequence_id, SpanError.INTERNAL, 0, f"{type(error).__name__}: {error}")

    def _forward(self, step: Step, good: list[int]) -> tuple[Tensor, ...]:
        arrays = [to_array(tensor) for tensor in step.tensors]
        everyone = len(good) == len(step.spans)
        if not everyone:
            arrays = take_rows(arrays, self._stage.input_slots, good)
        tokens = mx.zeros((len(good), step.length), mx.int32)
        spans = [step.spans[row] for row in good]
        out, caches = self._run(step.lane, spans, tokens, arrays)
        returned = min((span.return_rows for span in step.spans), default=0)
        if self._stage.closes and returned == 0:
            out = []
        elif self._stage.closes and returned < step.length:
            out = _last_positions(out, self._stage.output_slots, returned)
        if not everyone:
            out = _with_zero_rows(out, self._stage.output_slots, good, len(step.spans))
        mx.eval([cache.state for cache in caches], [array for array in out if array is not None])
        tensors = to_tensors(out)
        self._count(step.length, len(good))
        return tensors

    def _run(
        self, lane: int, spans: Sequence[Span], tokens: mx.array, wire: list[mx.array | None]
    ) -> tuple[list[mx.array | None], list[Cache]]:
        """Runs the segment lazily; the caches' lengths are advanced."""
        rows = [span.sequence_id for span in spans]
        caches = self._sequences.gather(lane, rows)
        out = self._stage(tokens, wire, caches)
        self._sequences.advance(rows, tokens.shape[1])
        return out, caches

    def _count(self, length: int, rows: int) -> None:
        figures = self._statistics
        figures.completed_steps += 1
        if length > 1:
            mx.clear_cache()
        else:
            figures.decode_steps += 1
            figures.decode_rows += rows
            if figures.decode_steps % _CLEAR_EVERY == 0:
                mx.clear_cache()


Arrays = list[mx.array | None]


def take_rows(arrays: Arrays, slots: Sequence[Slot], rows: Sequence[int]) -> Arrays:
    """Those rows of each tensor, in that order."""
    pairs = zip(arrays, slots, strict=True)
    return [None if array is None else slot.take_rows(array, rows) for array, slot in pairs]


def _last_positions(arrays: Arrays, slots: Sequence[Slot], count: int) -> Arrays:
    pairs = zip(arrays, slots, strict=True)
    return [None if array is None else slot.last_positions(array, count) for array, slot in pairs]


def _with_zero_rows(arrays: Arrays, slots: Sequence[Slot], good: Sequence[int], count: int) -> Arrays:
    """Tensors of ``count`` rows: what was computed stands at ``good``, zeros elsewhere, so that the shape stays."""
    if not arrays:
        return arrays
    place = {row: index for index, row in enumerate(good)}
    spread = take_rows(arrays, slots, [place.get(row, 0) for row in range(count)])
    failed = [row for row in range(count) if row not in place]
    pairs = zip(spread, slots, strict=True)
    return [None if array is None else slot.zero_rows(array, failed) for array, slot in pairs]
