"""A stage as a pure function of its log: what fails names itself, and the others go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest
from local_ring import make_shard

from node.engine.frames import (
    CloseSequence,
    ElementType,
    OpenSequence,
    Span,
    SpanError,
    Step,
    Tensor,
    TruncateSequence,
)
from node.engine.shard import Shard
from node.engine.tensors import to_array, to_tensors

HIDDEN = 32


def hidden(rows: int, length: int, seed: int) -> tuple[Tensor, ...]:
    return to_tensors([mx.random.normal((rows, length, HIDDEN), key=mx.random.key(seed))])


def step(number: int, spans: list[tuple[int, int]], *, length: int = 1, rows: int = 1, seed: int = 0) -> Step:
    """A step whose spans are (sequence, position)."""
    made = tuple(Span(sequence, position, length, rows) for sequence, position in spans)
    return Step(number, 0, length, made, hidden(len(spans), length, seed or number))


@pytest.fixture
def shard() -> Shard:
    return make_shard(1, 2, 0.0, 100)


def opened(shard: Shard, *sequences: int, tokens: int = 20) -> None:
    for sequence in sequences:
        shard.apply(OpenSequence(sequence, "g", tokens))


def run(shard: Shard, entry: Step) -> Step:
    out = shard.apply(entry)
    assert isinstance(out, Step)
    return out


def array(out: Step) -> Any:
    (tensor,) = out.tensors
    return to_array(tensor)


def test_a_row_that_cannot_run_travels_as_zeros_and_the_others_go_on(shard: Shard) -> None:
    opened(shard, 1, 3)
    mixed = step(1, [(1, 0), (2, 0), (3, 4)])
    first = to_array(mixed.tensors[0])
    assert first is not None
    alone = run(make_alone(), replace(step(7, [(1, 0)]), tensors=to_tensors([first[:1]])))
    out = run(shard, mixed)
    assert {f.sequence_id: f.error for f in out.failures} == {
        2: SpanError.UNKNOWN_SEQUENCE,
        3: SpanError.POSITION_MISMATCH,
    }
    rows = array(out)
    assert rows.shape == (3, 1, HIDDEN)
    assert mx.all(rows[1:] == 0)
    assert mx.allclose(rows[0], array(alone)[0], atol=1e-5)
    assert shard.statistics().live_sequences == 2


def make_alone() -> Shard:
    shard = make_shard(1, 2, 0.0, 100)
    opened(shard, 1)
    return shard


def test_a_failure_from_an_earlier_stage_is_passed_on(shard: Shard) -> None:
    opened(shard, 1, 2)
    first = run(shard, step(1, [(1, 5), (2, 0)]))
    again = run(shard, replace(step(2, [(1, 0), (2, 1)]), failures=first.failures))
    assert [failure.sequence_id for failure in again.failures] == [1]
    assert mx.any(array(again)[1] != 0)


def test_no_room_for_caches_fails_that_sequence_only(shard: Shard) -> None:
    opened(shard, 1, tokens=90)
    opened(shard, 2, tokens=20)
    out = run(shard, step(1, [(1, 0), (2, 0)]))
    assert {f.sequence_id: f.error for f in out.failures} == {2: SpanError.OUT_OF_KV}
    shard.apply(CloseSequence(1))
    shard.apply(CloseSequence(2))
    opened(shard, 3, tokens=90)
    assert not run(shard, step(2, [(3, 0)])).failures


def test_garbage_in_a_step_fails_its_rows_and_frees_them(shard: Shard) -> None:
    opened(shard, 1, 2)
    bad = Tensor(ElementType.FLOAT32, (1, 1, 7), bytes(28))
    out = run(shard, replace(step(1, [(1, 0)]), tensors=(bad,)))
    assert [failure.error for failure in out.failures] == [SpanError.INTERNAL]
    assert not run(shard, step(2, [(2, 0)])).failures
    assert shard.statistics().live_sequences == 1


def test_only_the_rows_that_were_asked_for_come_back(shard: Shard) -> None:
    opened(shard, 1)
    silent = run(shard, step(1, [(1, 0)], length=5, rows=0))
    assert silent.tensors == ()
    last = run(shard, step(2, [(1, 5)], length=4, rows=1))
    assert array(last).shape == (1, 1, HIDDEN)
    every = run(shard, step(3, [(1, 9)], length=3, rows=3))
    assert array(every).shape == (1, 3, HIDDEN)


def test_a_sequence_can_be_cut_back(shard: Shard) -> None:
    opened(shard, 1)
    run(shard, step(1, [(1, 0)], length=4, rows=0))
    first = array(run(shard, step(2, [(1, 4)], seed=5)))
    shard.apply(TruncateSequence(1, 4))
    assert mx.array_equal(array(run(shard, step(3, [(1, 4)], seed=5))), first)


def test_joining_and_leaving_changes_nothing_for_those_who_stay(shard: Shard) -> None:
    """Three sequences in changing company give what each gives alone."""
    plan = [[1], [1, 2], [2, 1], [1, 2, 3], [3, 1], [2], [1, 3], [3, 2, 1]]
    positions = {1: 0, 2: 0, 3: 0}
    opened(shard, 1, 2, 3)
    lonely = {sequence: make_shard(1, 2, 0.0, 100) for sequence in positions}
    for sequence, own in lonely.items():
        opened(own, sequence)
    for number, rows in enumerate(plan, start=1):
        together = array(run(shard, step(number, [(row, positions[row]) for row in rows])))
        given = hidden(len(rows), 1, number)
        for index, row in enumerate(rows):
            piece = to_array(given[0])
            assert piece is not None
            alone = Step(number, 0, 1, (Span(row, positions[row], 1, 1),), to_tensors([piece[index : index + 1]]))
            assert mx.allclose(together[index], array(run(lonely[row], alone))[0], atol=1e-5)
            positions[row] += 1
    for sequence in positions:
        shard.apply(CloseSequence(sequence))
    figures = shard.statistics()
    assert (figures.live_sequences, figures.kv_bytes) == (0, 0)


@pytest.mark.parametrize(
    "dtype", [mx.float16, mx.bfloat16, mx.float32, mx.int32, mx.uint32, mx.bool_], ids=lambda dtype: str(dtype)
)
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (2, 3, 4), (300, 300)])
def test_tensors_come_back_as_they_went(dtype: mx.Dtype, shape: tuple[int, ...]) -> None:
    array = (mx.random.normal(shape, key=mx.random.key(1)) * 3).astype(dtype)
    (tensor,) = to_tensors([array])
    assert len(bytes(tensor.data or b"")) == array.nbytes
    assert mx.array_equal(to_array(replace(tensor, data=bytes(tensor.data or b""))), array)


def test_a_view_that_is_not_contiguous_and_a_none() -> None:
    array = mx.arange(12, dtype=mx.int32).reshape(3, 4).T
    tensor, nothing = to_tensors([array, None])
    assert mx.array_equal(to_array(tensor), array)
    assert to_array(nothing) is None
