"""The head's part of the engine: embedding and first layers, and after the ring norm, output head and sampling.

One turn of a lane (rows in → epilogue → sample → embed → first layers) is ONE job of the MLX thread, so that no token
waits for the event loop. With a single stage the next step starts from the token that is still on the device, as
mlx-lm's ``async_eval`` does; its results lag by one turn. Rows whose next draw needs tokens on the host (penalties,
a grammar) do not run ahead. Tokens that a grammar forces are not sampled one by one: the row leaves its lane with all
of them, and the scheduler feeds them as one span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import mlx.core as mx

from node.engine.cutting import ModelStage
from node.engine.frames import Failure, Span, SpanError, Step
from node.engine.sampling import Draw, RowSampler, TokenLogprobs
from node.engine.shard import Shard, Stage, take_rows
from node.engine.tensors import to_array, to_tensors


@dataclass(slots=True, eq=False)
class Row:
    """A sequence that decodes: ``token`` is to be fed at ``position``; ``remaining`` tokens may still be sampled."""

    sequence_id: int
    token: int
    position: int
    remaining: int
    stop_ids: frozenset[int]
    sampler: RowSampler


@dataclass(frozen=True, slots=True)
class Sample:
    """A token that a sequence got; ``last`` when the row left its lane with it (end of turn or the limit)."""

    sequence_id: int
    token: int
    logprobs: TokenLogprobs | None
    last: bool


class Left(NamedTuple):
    """A sequence that left its lane with forced tokens; its caches hold ``length`` positions."""

    sequence_id: int
    length: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a lane gave: tokens, rows that failed, and the step to send.

    ``busy`` says that the lane has a step under way: on the wire when ``step`` is set, else on this device. ``left``
    are the sequences that left the lane with forced tokens, of which all but the last are to be fed before they decode
    on.
    """

    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]
    step: Step | None
    busy: bool
    left: tuple[Left, ...] = ()


@dataclass(slots=True)
class _Drawn:
    """What a turn has given so far."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    def turn(self, step: Step | None, *, busy: bool) -> Turn:
        return Turn(tuple(self.samples), tuple(self.failures), step, busy, tuple(self.left))


@dataclass(slots=True)
class _Ahead:
    """A forward that was launched on this device: its rows as they were, its logits, its draw once there is one."""

    rows: list[Row]
    positions: list[int]
    logits: mx.array
    draw: Draw | None


@dataclass(slots=True)
class _Lane:
    rows: list[Row] = field(default_factory=list)
    ahead: _Ahead | None = None


class HeadShard(Shard):
    """Stage 0 of a pipeline; the only one that knows tokens.

    Args:
        stage: the first segment, or with a single stage the whole model.
        epilogue: norm and output head over what the ring brought back; None with a single stage.
    """

    def __init__(
        self, stage: Stage, epilogue: ModelStage | None, *, kv_bytes_per_token: int, kv_budget_bytes: int
    ) -> None:
        super().__init__(stage, kv_bytes_per_token=kv_bytes_per_token, kv_budget_bytes=kv_budget_bytes)
        self._epilogue = epilogue
        self._lanes: dict[int, _Lane] = {}

    def clear(self) -> None:
        """Frees every sequence and forgets what was under way."""
        self._lanes.clear()
        super().clear()

    def prefill(self, step_id: int, lane: int, sequence_id: int, position: int, tokens: Sequence[int]) -> Step:
        """Runs part of a prompt through this stage; the step to send, which carries no tensors with a single stage.
        A failure is named in the step."""
        span = Span(sequence_id, position, len(tokens), 0)
        step = Step(step_id, lane, len(tokens), (span,))
        if (failure := self._unfit(span)) is not None:
            return Step(step_id, lane, len(tokens), (span,), (), (failure,))
        try:
            out, caches = self._run(lane, [span], mx.array([list(tokens)]), [])
            kept = [] if self._epilogue is None else out
            mx.eval([cache.state for cache in caches], [array for array in kept if array is not None])
            self._count(len(tokens), 1)
            return Step(step_id, lane, len(tokens), (span,), to_tensors(kept))
        except Exception as error:  # noqa: BLE001 - becomes the sequence's failure
            return Step(step.step_id, lane, step.length, step.spans, (), (self._broken(sequence_id, error),))

    def close(self, sequence_id: int) -> None:
        """Frees a sequence; what is under way for it is dropped when it arrives."""
        for lane in self._lanes.values():
            lane.rows = [row for row in lane.rows if row.sequence_id != sequence_id]
        super().close(sequence_id)

    def turn(self, step_id: int, lane_id: int, arrived: Step | None, join: Sequence[Row]) -> Turn:
        """One turn of a lane.

        Args:
            step_id: for the step that this turn sends, if it sends one.
            lane_id: which lane.
            arrived: what the ring brought back for the lane's step; None on the first turn and with a single stage.
            join: rows that begin to decode.
        """
        lane = self._lanes.setdefault(lane_id, _Lane())
        turn = self._local_turn if self._epilogue is None else self._ring_turn
        result = turn(step_id, lane_id, lane, arrived, list(join))
        if not lane.rows and lane.ahead is None:
            del self._lanes[lane_id]
        return result

    # -- several stages

    def _ring_turn(self, step_id: int, lane_id: int, lane: _Lane, arrived: Step | None, join: list[Row]) -> Turn:
        drawn = _Drawn()
        if arrived is not None:
            self._finish(lane, arrived, drawn)
        self._take_forced(lane, drawn)
        lane.rows += join
        step = self._launch_step(step_id, lane_id, lane, drawn) if lane.rows else None
        return drawn.turn(step, busy=step is not None)

    def _finish(self, lane: _Lane, arrived: Step, drawn: _Drawn) -> None:
        """Epilogue and draw for what came back."""
        failed = {failure.sequence_id for failure in arrived.failures}
        rows = {row.sequence_id: row for row in lane.rows}
        drawn.failures += [failure for failure in arrived.failures if failure.sequence_id in rows]
        lane.rows = [row for row in lane.rows if row.sequence_id not in failed]
        wanted = [
            (index, rows[span.sequence_id])
            for index, span in enumerate(arrived.spans)
            if span.sequence_id in rows and span.sequence_id not in failed
        ]
        if not wanted:
            return
        assert self._epilogue is not None
        arrays = [to_array(tensor) for tensor in arrived.tensors]
        if len(wanted) != len(arrived.spans):
            arrays = take_rows(arrays, self._epilogue.input_slots, [index for index, _ in wanted])
        out = self._epilogue(mx.zeros((len(wanted), 1), mx.int32), arrays, self._epilogue.make_cache())
        logits = out[0]
        assert logits is not None
        rows_drawn = [row for _, row in wanted]
        self._accept(lane, rows_drawn, logits[:, -1], [row.position for row in rows_drawn], None, drawn)

    def _launch_step(self, step_id: int, lane_id: int, lane: _Lane, drawn: _Drawn) -> Step | None:
        drawn.failures += self._drop_unfit(lane)
        if not lane.rows:
            return None
        spans = tuple(Span(row.sequence_id, row.position, 1, 1) for row in lane.rows)
        tokens = mx.array([[row.token] for row in lane.rows])
        try:
            out, caches = self._run(lane_id, spans, tokens, [])
            mx.eval([cache.state for cache in caches], [array for array in out if array is not None])
            tensors = to_tensors(out)
        except Exception as error:  # noqa: BLE001 - becomes the rows' failure
            drawn.failures += [self._broken(row.sequence_id, error) for row in lane.rows]
            lane.rows = []
            return None
        self._count(1, len(spans))
        for row in lane.rows:
            row.position += 1
        return Step(step_id, lane_id, 1, spans, tensors)

    # -- one stage

    def _local_turn(self, step_id: int, lane_id: int, lane: _Lane, arrived: Step | None, join: list[Row]) -> Turn:
        del step_id, arrived
        drawn = _Drawn()
        ahead, lane.ahead = lane.ahead, None
        if ahead is not None:
            draw = ahead.draw
            if draw is not None and any(row.sampler.mask() is not None for row in ahead.rows):
                draw = None  # made before the token came with which a grammar woke
            if draw is not None and not join and ahead.rows == lane.rows and _may_run_ahead(lane.rows):
                drawn.failures += self._launch_local(lane_id, lane, draw.tokens[:, None])
            self._accept(lane, ahead.rows, ahead.logits, ahead.positions, draw, drawn)
        if lane.ahead is None:
            self._take_forced(lane, drawn)
            lane.rows += join
            drawn.failures += self._drop_unfit(lane)
            if lane.rows:
                drawn.failures += self._launch_local(lane_id, lane, mx.array([[row.token] for row in lane.rows]))
        return drawn.turn(None, busy=lane.ahead is not None)

    def _launch_local(self, lane_id: int, lane: _Lane, tokens: mx.array) -> list[Failure]:
        spans = [Span(row.sequence_id, row.position, 1, 1) for row in lane.rows]
        try:
            out, caches = self._run(lane_id, spans, tokens, [])
            logits = out[0]
            assert logits is not None
            for row in lane.rows:
                row.position += 1
            rows, positions = list(lane.rows), [row.position for row in lane.rows]
            simple = all(row.sampler.runs_ahead() for row in rows)
            draw = Draw(logits[:, -1], [row.sampler for row in rows], positions) if simple else None
            launched = [logits] if draw is None else draw.arrays
            mx.async_eval(launched, [cache.state for cache in caches])  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - becomes the rows' failure
            failures = [self._broken(row.sequence_id, error) for row in lane.rows]
            lane.rows = []
            return failures
        self._count(1, len(rows))
        lane.ahead = _Ahead(rows, positions, logits[:, -1], draw)
        return []

    # -- both

    def _drop_unfit(self, lane: _Lane) -> list[Failure]:
        """Takes rows out of the lane that this stage cannot run."""
        failures = []
        for row in list(lane.rows):
            failure = self._unfit(Span(row.sequence_id, row.position, 1, 1))
            if failure is not None:
                failures.append(failure)
                lane.rows.remove(row)
        return failures

    def _accept(
        self,
        lane: _Lane,
        rows: list[Row],
        logits: mx.array,
        positions: Sequence[int],
        draw: Draw | None,
        drawn: _Drawn,
    ) -> None:
        """Draws, or reads the draw that was launched, and moves the rows on that are still in the lane."""
        draw = draw or Draw(logits, [row.sampler for row in rows], positions)
        for index, (row, (token, logprobs)) in enumerate(zip(rows, draw.read(), strict=True)):
            if row not in lane.rows:
                continue
            if not row.sampler.accept(token):
                again = Draw(logits[index : index + 1], [row.sampler], positions[index : index + 1])
                token, logprobs = again.read()[0]
                if not row.sampler.accept(token):
                    lane.rows.remove(row)
                    message = row.sampler.error or f"the grammar takes no token, {token} neither"
                    drawn.failures.append(Failure(row.sequence_id, SpanError.INTERNAL, 0, message))
                    continue
            self._move(lane, row, token, logprobs, drawn)

    def _take_forced(self, lane: _Lane, drawn: _Drawn) -> None:
        """Rows for which several tokens are certain leave the lane with them."""
        worth_it = _FORCED_ALONE if len(lane.rows) == 1 else _FORCED_SHARED
        for row in list(lane.rows):
            forced = row.sampler.forced()[: row.remaining]
            if len(forced) < worth_it:
                continue
            drawn.left.append(Left(row.sequence_id, row.position))
            for token in forced:
                if row not in lane.rows or not row.sampler.accept(token):
                    break
                self._move(lane, row, token, row.sampler.report_forced(token), drawn)
            if row in lane.rows:
                lane.rows.remove(row)

    def _move(self, lane: _Lane, row: Row, token: int, logprobs: TokenLogprobs | None, drawn: _Drawn) -> None:
        """A token is the row's; a row that ends with it leaves the lane."""
        row.token = token
        row.remaining -= 1
        last = token in row.stop_ids or row.remaining <= 0
        if last:
            lane.rows.remove(row)
        drawn.samples.append(Sample(row.sequence_id, token, logprobs, last))


_FORCED_ALONE: Final = 2
"""From so many forced tokens on a span of their own is worth it for a row that is alone in its lane."""
_FORCED_SHARED: Final = 8
"""The same for a row with others: leaving and joining a batch copies caches."""


def _may_run_ahead(rows: Sequence[Row]) -> bool:
    return all(row.remaining > 1 and row.sampler.runs_ahead() for row in rows)
