import mlx.core as mx
from hypothesis import given
from hypothesis import strategies as st

from node.engine.cutting import Axis, Slot

dims = st.lists(st.sampled_from([Axis.BATCH, Axis.LENGTH, 1, 2, 3]), max_size=4, unique_by=lambda d: (type(d), d))
sizes = st.integers(1, 5)


def array_of(slot: Slot, batch: int, length: int) -> mx.array:
    shape = slot.shape(batch, length).shape
    count = 1
    for size in shape:
        count *= size
    return mx.arange(1, count + 1).reshape(shape).astype(slot.dtype)


@given(dims, sizes, sizes, st.data())
def test_the_last_positions_of_a_step_are_the_step_without_its_first(
    sizes_of: list[int | Axis], batch: int, length: int, data: st.DataObject
) -> None:
    slot = Slot("x", tuple(sizes_of), mx.float32)
    count = data.draw(st.integers(1, length))
    array = array_of(slot, batch, length)
    last = slot.last_positions(array, count)
    if slot.length_axis is None:
        assert mx.array_equal(last, array)
    else:
        assert tuple(last.shape) == slot.shape(batch, count).shape
        axis = slot.length_axis
        first = mx.take(array, mx.arange(length - count), axis=axis)
        assert mx.array_equal(mx.concatenate([first, last], axis=axis), array)


@given(dims, sizes, sizes, st.data())
def test_rows_are_taken_in_the_order_asked_for(
    sizes_of: list[int | Axis], batch: int, length: int, data: st.DataObject
) -> None:
    slot = Slot("x", tuple(sizes_of), mx.float32)
    rows = data.draw(st.lists(st.integers(0, batch - 1), min_size=1, max_size=4))
    array = array_of(slot, batch, length)
    taken = slot.take_rows(array, rows)
    if slot.batch_axis is None:
        assert mx.array_equal(taken, array)
    else:
        assert tuple(taken.shape) == slot.shape(len(rows), length).shape
        for i, row in enumerate(rows):
            one = slot.take_rows(taken, [i])
            assert mx.array_equal(one, slot.take_rows(array, [row]))


@given(dims, sizes, sizes, st.data())
def test_failed_rows_are_zero_and_the_others_untouched(
    sizes_of: list[int | Axis], batch: int, length: int, data: st.DataObject
) -> None:
    slot = Slot("x", tuple(sizes_of), mx.float16)
    failed = data.draw(st.sets(st.integers(0, batch - 1)))
    array = array_of(slot, batch, length)
    zeroed = slot.zero_rows(array, sorted(failed))
    assert zeroed.dtype == array.dtype
    if slot.batch_axis is None:
        assert mx.array_equal(zeroed, array)
        return
    for row in range(batch):
        one = slot.take_rows(zeroed, [row])
        assert mx.array_equal(one, mx.zeros_like(one) if row in failed else slot.take_rows(array, [row]))


def test_a_slot_reads_as_one_line() -> None:
    slot = Slot("result of call 3", (2, Axis.BATCH, Axis.LENGTH, 64), mx.bfloat16)
    assert str(slot) == "result of call 3: 2xBxLx64 bfloat16"
    assert slot.shape(3, 5).nbytes == 2 * 3 * 5 * 64 * 2
