"""Entries to messages and back, and what an assembler refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_strategies import ENTRIES, PIECES, STEPS

from node.engine import frames
from node.links.codec import (
    INLINE_BYTES,
    MAX_STEP_BYTES,
    Assembler,
    Message,
    Piece,
    carried_bytes,
    decode,
    encode,
    to_messages,
)
from tandem.errors import LinkError
from tandem.v1 import pipeline_pb2 as pb


def plain(entry: frames.Entry) -> frames.Entry:
    """The same entry, its tensors' data as bytes."""
    if not isinstance(entry, frames.Step):
        return entry
    whole = [replace(t, data=None if t.data is None else bytes(t.data)) for t in entry.tensors]
    return replace(entry, tensors=tuple(whole))


def arrived(message: Message) -> Message:
    """The message after a journey as bytes."""
    return decode(encode(message))


def transported(entries: list[frames.Entry], piece_bytes: int) -> list[frames.Entry]:
    """The entries after a journey as bytes."""
    assembler, entries_read, index = Assembler(), [], 1
    for entry in entries:
        for message in to_messages(entry, piece_bytes, index):
            index = message.log_index + 1
            whole = assembler.add(arrived(message))
            if whole is not None:
                entries_read.append(plain(whole))
    assembler.end()
    return entries_read


@given(st.lists(ENTRIES, max_size=4), st.integers(1, 40))
def test_every_entry_arrives_as_it_was(entries: list[frames.Entry], piece_bytes: int) -> None:
    assert transported(entries, piece_bytes) == [plain(entry) for entry in entries]


@given(STEPS, st.integers(1, 40))
def test_pieces_are_dense_and_no_larger_than_agreed(step: frames.Step, piece_bytes: int) -> None:
    messages = list(to_messages(step, piece_bytes, 7))
    assert [message.log_index for message in messages] == list(range(7, 7 + len(messages)))
    pieces = messages[1:]
    assert all(isinstance(piece, Piece) for piece in pieces)
    carried = [carried_bytes(message) for message in messages]
    assert max(carried) <= piece_bytes
    assert all(carried[1:])
    assert sum(carried) == step.byte_count
    assert bool(pieces) == (step.byte_count > piece_bytes)


@pytest.mark.parametrize(("sizes", "inline"), [((INLINE_BYTES,), True), ((INLINE_BYTES - 1, 2), False)])
def test_a_small_step_is_one_message(sizes: tuple[int, ...], inline: bool) -> None:
    tensors = tuple(frames.Tensor(frames.ElementType.BOOL, (size,), bytes(size)) for size in sizes)
    messages = list(to_messages(frames.Step(1, 0, 1, (), tensors), 1 << 20, 1))
    assert (len(messages) == 1) == inline


@given(STEPS)
def test_a_step_whose_tensors_come_either_way_is_read(step: frames.Step) -> None:
    """Another sender may carry some of a step's tensors in its message and send pieces of the others."""
    whole = next(to_messages(step, 1 << 20, 1))
    header = pb.StreamActivationsRequest.FromString(encode(whole))
    assembler, read = Assembler(), None
    pieces = []
    for spec in list(header.step.tensors)[::2]:
        if spec.data:
            pieces.append(Piece(len(pieces) + 2, step.step_id, spec.slot, 0, spec.data))
            spec.ClearField("data")
    for message in (header, *pieces):
        assert read is None
        read = assembler.add(arrived(message))
    assert read is not None
    assert plain(read) == plain(step)
    assembler.end()


def feed(data: bytes) -> None:
    """What a link does with a message; anything but LinkError would take the node's task down with it."""
    try:
        Assembler().add(decode(data))
    except LinkError:
        pass


@given(st.binary(max_size=200))
def test_noise_raises_nothing_but_link_errors(data: bytes) -> None:
    feed(data)


@given(st.one_of(PIECES, ENTRIES), st.data())
def test_a_damaged_message_raises_nothing_but_link_errors(whole: Piece | frames.Entry, data: st.DataObject) -> None:
    message: Message = whole if isinstance(whole, Piece) else next(to_messages(whole, 64, 1))
    raw = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    feed(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


def step_message(log_index: int = 1, **changes: object) -> pb.StreamActivationsRequest:
    """A step of one 2 × 2 tensor, with fields of that tensor changed."""
    fields: dict[str, object] = {"slot": 0, "data_type": 1, "shape": [2, 2], "byte_count": 8}
    spec = pb.TensorSpec(**{**fields, **changes})  # type: ignore[arg-type]
    return pb.StreamActivationsRequest(log_index=log_index, step=pb.Step(step_id=9, tensors=[spec]))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(pb.StreamActivationsRequest(log_index=1), id="empty"),
        pytest.param(pb.StreamActivationsRequest(log_index=1, hello=pb.LinkHello()), id="second hello"),
        pytest.param(step_message(data_type=0), id="no element type"),
        pytest.param(step_message(data_type=99), id="unknown element type"),
        pytest.param(step_message(byte_count=9), id="bytes do not fit the shape"),
        pytest.param(step_message(slot=1), id="slots out of order"),
        pytest.param(step_message(shape=[1 << 31, 1 << 31], byte_count=1 << 63), id="absurd size"),
        pytest.param(step_message(shape=[MAX_STEP_BYTES], byte_count=2 * MAX_STEP_BYTES), id="just too large"),
        pytest.param(step_message(data=b"1234567"), id="too few bytes in the message"),
        pytest.param(step_message(data=b"123456789"), id="too many bytes in the message"),
        pytest.param(step_message(is_null=True, data=b"12345678"), id="bytes of what is null"),
        pytest.param(step_message(is_null=True, byte_count=8), id="a size of what is null"),
        pytest.param(Piece(1, 9, 0, 0, b"12345678"), id="piece without a step"),
    ],
)
def test_impossible_messages_are_refused(message: Message) -> None:
    with pytest.raises(LinkError):
        Assembler().add(arrived(message))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Piece(2, 8, 0, 0, b"1234"), id="another step"),
        pytest.param(Piece(2, 9, 1, 0, b"1234"), id="another slot"),
        pytest.param(Piece(2, 9, 0, 4, b"1234"), id="a hole"),
        pytest.param(Piece(2, 9, 0, 0, b"123456789"), id="too long"),
        pytest.param(Piece(2, 9, 0, 0, b""), id="nothing in it"),
        pytest.param(Piece(3, 9, 0, 0, b"1234"), id="gap"),
        pytest.param(Piece(1, 9, 0, 0, b"1234"), id="index again"),
        pytest.param(pb.StreamActivationsRequest(log_index=2, close=pb.CloseSequence()), id="an entry in between"),
        pytest.param(step_message(log_index=2, data=b"12345678"), id="the whole step in between"),
    ],
)
def test_what_does_not_complete_a_step_is_refused(message: Message) -> None:
    assembler = Assembler()
    assert assembler.add(arrived(step_message())) is None
    with pytest.raises(LinkError):
        assembler.add(arrived(message))


def test_a_log_may_not_end_within_a_step() -> None:
    assembler = Assembler()
    assembler.add(arrived(step_message()))
    with pytest.raises(LinkError, match="step 9"):
        assembler.end()
    assembler.add(Piece(2, 9, 0, 0, b"12345678"))
    assembler.end()
