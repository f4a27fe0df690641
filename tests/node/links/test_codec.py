"""The codec against the generated code, and against garbage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.engine import frames
from node.links.codec import MAX_STEP_BYTES, Assembler, Message, Piece, decode, encode, to_messages
from tandem.errors import LinkError
from tandem.v1 import pipeline_pb2 as pb

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=8)
PIECES = st.builds(Piece, U64, U64, U32, U64, st.binary(min_size=1, max_size=300))


@st.composite
def tensors(draw: st.DrawFn) -> frames.Tensor:
    element = draw(st.sampled_from(frames.ElementType))
    if draw(st.booleans()):
        return frames.Tensor(element, (), None)
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    count = element.size
    for size in shape:
        count *= size
    return frames.Tensor(element, shape, draw(st.binary(min_size=count, max_size=count)))


SPANS = st.builds(frames.Span, U64, U32, U32, U32)
FAILURES = st.builds(frames.Failure, U64, st.sampled_from(frames.SpanError), U32, TEXT)
STEPS = st.builds(
    frames.Step,
    U64, U32, U32,
    st.lists(SPANS, max_size=3).map(tuple),
    st.lists(tensors(), max_size=3).map(tuple),
    st.lists(FAILURES, max_size=2).map(tuple),
)  # fmt: skip
ENTRIES = st.one_of(
    STEPS,
    st.builds(frames.OpenSequence, U64, TEXT, U32, U64, U32, TEXT),
    st.builds(frames.TruncateSequence, U64, U32),
    st.builds(frames.KeepPrefix, U64, U64, U32),
    st.builds(frames.DropPrefix, U64),
    st.builds(frames.CloseSequence, U64),
)


def generated(piece: Piece) -> pb.StreamActivationsRequest:
    return pb.StreamActivationsRequest(
        log_index=piece.log_index,
        piece=pb.TensorPiece(step_id=piece.step_id, slot=piece.slot, offset=piece.offset, data=bytes(piece.data)),
    )


def plain(entry: frames.Entry) -> frames.Entry:
    """The same entry, its tensors' data as bytes."""
    if not isinstance(entry, frames.Step):
        return entry
    whole = [replace(t, data=None if t.data is None else bytes(t.data)) for t in entry.tensors]
    return replace(entry, tensors=tuple(whole))


def transported(entries: list[frames.Entry], piece_bytes: int) -> list[frames.Entry]:
    """The entries after a journey as bytes."""
    assembler, arrived, index = Assembler(), [], 1
    for entry in entries:
        for message in to_messages(entry, piece_bytes, index):
            index = message.log_index + 1
            whole = assembler.add(decode(encode(message)))
            if whole is not None:
                arrived.append(plain(whole))
    assembler.end()
    return arrived


@given(PIECES)
def test_a_piece_is_written_as_the_generated_code_writes_it(piece: Piece) -> None:
    assert encode(piece) == generated(piece).SerializeToString()


@given(PIECES)
def test_a_piece_of_the_generated_code_is_read(piece: Piece) -> None:
    read = decode(generated(piece).SerializeToString())
    assert isinstance(read, Piece)
    assert replace(read, data=bytes(read.data)) == piece


@given(PIECES)
def test_a_piece_is_read_whatever_the_order_of_its_fields(piece: Piece) -> None:
    """Protobuf allows any order; another implementation may use it."""
    inner = b"".join(
        pb.TensorPiece(**{name: getattr(piece, name)}).SerializeToString() for name in ("offset", "slot", "step_id")
    )
    inner = pb.TensorPiece(data=bytes(piece.data)).SerializeToString() + inner
    head = pb.StreamActivationsRequest(log_index=piece.log_index).SerializeToString()
    body = b"\x2a" + bytes((len(inner) & 0x7F | 0x80, len(inner) >> 7)) + inner
    for data in (head + body, body + head):
        read = decode(data)
        assert isinstance(read, Piece)
        assert replace(read, data=bytes(read.data)) == piece


@given(st.lists(ENTRIES, max_size=4), st.integers(1, 40))
def test_every_entry_arrives_as_it_was(entries: list[frames.Entry], piece_bytes: int) -> None:
    assert transported(entries, piece_bytes) == [plain(entry) for entry in entries]


@given(STEPS, st.integers(1, 40))
def test_pieces_are_dense_and_no_larger_than_agreed(step: frames.Step, piece_bytes: int) -> None:
    messages = list(to_messages(step, piece_bytes, 7))
    assert [message.log_index for message in messages] == list(range(7, 7 + len(messages)))
    pieces = messages[1:]
    assert all(isinstance(piece, Piece) and 0 < len(piece.data) <= piece_bytes for piece in pieces)
    assert sum(len(piece.data) for piece in pieces if isinstance(piece, Piece)) == step.byte_count


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


@given(PIECES, st.data())
def test_what_is_read_as_a_piece_is_what_the_generated_code_reads(piece: Piece, data: st.DataObject) -> None:
    raw = bytearray(encode(piece))
    raw[data.draw(st.integers(0, min(len(raw) - 1, 40)))] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(raw))
    except LinkError:
        return
    if isinstance(read, Piece):
        theirs = pb.StreamActivationsRequest.FromString(bytes(raw))
        theirs.DiscardUnknownFields()
        assert generated(read) == theirs


def step_message(**changes: object) -> pb.StreamActivationsRequest:
    """A step of one 2 × 2 tensor, with fields of that tensor changed."""
    fields: dict[str, object] = {"slot": 0, "data_type": 1, "shape": [2, 2], "byte_count": 8}
    spec = pb.TensorSpec(**{**fields, **changes})  # type: ignore[arg-type]
    return pb.StreamActivationsRequest(log_index=1, step=pb.Step(step_id=9, tensors=[spec]))


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
        pytest.param(Piece(1, 9, 0, 0, b"12345678"), id="piece without a step"),
    ],
)
def test_impossible_messages_are_refused(message: Message) -> None:
    with pytest.raises(LinkError):
        Assembler().add(decode(encode(message)))


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
    ],
)
def test_what_does_not_complete_a_step_is_refused(message: Message) -> None:
    assembler = Assembler()
    assert assembler.add(step_message()) is None
    with pytest.raises(LinkError):
        assembler.add(decode(encode(message)))


def test_a_log_may_not_end_within_a_step() -> None:
    assembler = Assembler()
    assembler.add(step_message())
    with pytest.raises(LinkError, match="step 9"):
        assembler.end()
    assembler.add(Piece(2, 9, 0, 0, b"12345678"))
    assembler.end()
