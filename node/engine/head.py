"""The head's part of the engine: embedding and first layers, and after the ring norm, output head and sampling.

One turn of a lane (rows in → epilogue → sample → embed → first layers) is ONE job of the MLX thread, so that no token
waits for the event loop. With a single stage the next step starts from the token that is still on the device, as
mlx-lm's ``async_eval`` does; its results lag by one turn. Rows whose next draw needs tokens on the host (penalties)
do not run ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mlx.core as mx

from node.engine.cutting import ModelStage
from node.engine.frames import Failure, Span, Step
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


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a lane gave: tokens, rows that failed, and the step to send.

    ``busy`` says that the lane has a step under way: on the wire when ``step`` is set, else on this device.
    """

    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]
    step: Step | None
    busy: bool


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
        samples, failures = self._finish(lane, arrived) if arrived is not None else ([], [])
        lane.rows += join
        if not lane.rows:
            return Turn(tuple(samples), tuple(failures), None, busy=False)
        step, failed = self._launch_step(step_id, lane_id, lane)
        return Turn(tuple(samples), (*failures, *failed), step, busy=step is not None)

    def _finish(self, lane: _Lane, arrived: Step) -> tuple[list[Sample], list[Failure]]:
        """Epilogue and draw for what came back."""
        failed = {failure.sequence_id for failure in arrived.failures}
        rows = {row.sequence_id: row for row in lane.rows}
        failures = [failure for failure in arrived.failures if failure.sequence_id in rows]
        lane.rows = [row for row in lane.rows if row.sequence_id not in failed]
        wanted = [
            (index, rows[span.sequence_id])
            for index, span in enumerate(arrived.spans)
            if span.sequence_id in rows and span.sequence_id not in failed
        ]
        if not wanted:
            return [], failures
        assert self._epilogue is not None
        arrays = [to_array(tensor) for tensor in arrived.tensors]
        if len(wanted) != len(arrived.spans):
            arrays = take_rows(arrays, self._epilogue.input_slots, [index for index, _ in wanted])
        out = self._epilogue(mx.zeros((len(wanted), 1), mx.int32), arrays, self._epilogue.make_cache())
        logits = out[0]
        assert logits is not None
        drawn_for = [row for _, row in wanted]
        draw = Draw(logits[:, -1], [row.sampler for row in drawn_for], [row.position for row in drawn_for])
        return self._accept(lane, drawn_for, draw), failures

    def _launch_step(self, step_id: int, lane_id: int, lane: _Lane) -> tuple[Step | None, list[Failure]]:
        failures = self._drop_unfit(lane)
        if not lane.rows:
            return None, failures
        spans = tuple(Span(row.sequence_id, row.position, 1, 1) for row in lane.rows)
        tokens = mx.array([[row.token] for row in lane.rows])
        try:
            out, caches = self._run(lane_id, spans, tokens, [])
            mx.eval([cache.state for cache in caches], [array for array in out if array is not None])
            tensors = to_tensors(out)
        except Exception as error:  # noqa: BLE001 - becomes the rows' failure
            failures += [self._broken(row.sequence_id, error) for row in lane.rows]
            lane.rows = []
            return None, failures
        self._count(1, len(spans))
        for row in lane.rows:
            row.position += 1
        return Step(step_id, lane_id, 1, spans, tensors), failures

    # -- one stage

    def _local_turn(self, step_id: int, lane_id: int, lane: _Lane, arrived: Step | None, join: list[Row]) -> Turn:
        del step_id, arrived
        samples: list[Sample] = []
        failures: list[Failure] = []
        ahead, lane.ahead = lane.ahead, None
        if ahead is not None:
            draw = ahead.draw or Draw(ahead.logits, [row.sampler for row in ahead.rows], ahead.positions)
            if not join and ahead.rows == lane.rows and ahead.draw is not None and _may_run_ahead(lane.rows):
                failures += self._launch_local(lane_id, lane, ahead.draw.tokens[:, None])
            alive = {row.sequence_id for row in lane.rows}
            samples = self._accept(lane, ahead.rows, draw, alive)
        if lane.ahead is None:
            lane.rows += join
            failures += self._drop_unfit(lane)
            if lane.rows:
                failures += self._launch_local(lane_id, lane, mx.array([[row.token] for row in lane.rows]))
        return Turn(tuple(samples), tuple(failures), None, busy=lane.ahead is not None)

    def _launch_local(self, lane_id: int, lane: _Lane, tokens: mx.array) -> list[Failure]:
        spans = [Span(row.sequence_id, row.position, 1, 1) for row in lane.rows]
        try:
            out, caches = self._run(lane_id, spans, tokens, [])
            logits = out[0]
            assert logits is not None
            for row in lane.rows:
                row.position += 1
            rows, positions = list(lane.rows), [row.position for row in lane.rows]
            simple = not any(row.sampler.params.looks_back for row in rows)
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

    def _accept(self, lane: _Lane, rows: list[Row], draw: Draw, alive: set[int] | None = None) -> list[Sample]:
        """Reads a draw and moves its rows on; rows that end leave the lane."""
        samples = []
        for row, (token, logprobs) in zip(rows, draw.read(), strict=True):
            if alive is not None and row.sequence_id not in alive:
                continue
            row.token = token
            row.remaining -= 1
            row.sampler.accept(token)
            last = token in row.stop_ids or row.remaining <= 0
            if last:
                lane.rows = [other for other in lane.rows if other is not row]
            samples.append(Sample(row.sequence_id, token, logprobs, last))
        return samples


def _may_run_ahead(rows: Sequence[Row]) -> bool:
    return all(row.remaining > 1 for row in rows)
