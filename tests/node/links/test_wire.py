"""What is written and read by hand against the generated code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_strategies import PIECES, STEPS

from node.engine import frames
from node.links import wire
from node.links.codec import decode, encode, to_messages
from node.links.wire import Piece, StepMessage
from tandem.errors import LinkError
from tandem.v1 import pipeline_pb2 as pb


def generated(message: Piece | StepMessage) -> pb.StreamActivationsRequest:
    """The message as the generated code has it; a step with all of its bytes or, in ``encode``, none."""
    if isinstance(message, StepMessage):
        return pb.StreamActivationsRequest.FromString(encode(message))
    piece = pb.TensorPiece(step_id=message.step_id, slot=message.slot, offset=message.offset, data=bytes(message.data))
    return pb.StreamActivationsRequest(log_index=message.log_index, piece=piece)


def whole(message: Piece | StepMessage) -> Piece | StepMessage:
    """The same message, a piece's data as bytes."""
    return message._replace(data=bytes(message.data)) if isinstance(message, Piece) else message


def step_of(step: frames.Step, piece_bytes: int = 1 << 20, log_index: int = 7) -> StepMessage:
    """Its own message, with its tensors if they have no more than so many bytes."""
    message = next(to_messages(step, piece_bytes, log_index))
    assert isinstance(message, StepMessage)
    return message


def usual(step: frames.Step) -> frames.Step:
    """What a decode step looks like: nothing failed, and no id is beyond 63 bits."""
    spans = [frames.Span(s.sequence_id >> 1, s.position, s.token_count, s.return_rows) for s in step.spans]
    return frames.Step(step.step_id >> 1, step.lane, step.length, tuple(spans), step.tensors)


@given(PIECES)
def test_a_piece_is_written_as_the_generated_code_writes_it(piece: Piece) -> None:
    assert encode(piece) == generated(piece).SerializeToString()


@given(PIECES)
def test_a_piece_of_the_generated_code_is_read(piece: Piece) -> None:
    read = decode(generated(piece).SerializeToString())
    assert isinstance(read, Piece)
    assert whole(read) == piece


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
        assert whole(read) == piece


@given(STEPS)
def test_a_usual_step_needs_no_generated_code(step: frames.Step) -> None:
    """Read by hand it is what was sent; the slow way would hide that the quick one never applies."""
    message = step_of(usual(step))
    assert wire.read(encode(message)) == message


@given(STEPS, st.integers(0, 40), st.integers(0, 2**63 - 1))
def test_any_step_is_read_as_the_generated_code_reads_it(step: frames.Step, piece_bytes: int, log_index: int) -> None:
    message = step_of(step, piece_bytes, log_index)
    assert_reads_as_generated(encode(message))
    read = decode(encode(message))
    assert isinstance(read, StepMessage)
    assert read[::2] == message[::2]
    assert read.step.spans == step.spans
    assert read.step.failures == step.failures


@given(STEPS, st.data())
def test_fields_of_a_step_in_another_order_are_read(step: frames.Step, data: st.DataObject) -> None:
    message = step_of(step)
    header = generated(message).step
    fields = [pb.Step(step_id=header.step_id), pb.Step(batch_id=header.batch_id), pb.Step(length=header.length)]
    fields += [pb.Step(tensors=header.tensors), pb.Step(spans=header.spans), pb.Step(failures=header.failures)]
    order = data.draw(st.permutations(fields))
    inner = b"".join(field.SerializeToString() for field in order)
    size = pb.TensorPiece(data=inner).SerializeToString()[1:] if inner else b"\x00"  # a length and the bytes
    raw = b"\x08" + bytes((message.log_index,)) + b"\x22" + size
    assert decode(raw) == message


def assert_reads_as_generated(raw: bytes) -> None:
    """What is read by hand, if anything, is what the generated code makes of the same bytes."""
    try:
        read = wire.read(raw)
    except LinkError:
        return
    if read is None:
        return
    theirs = pb.StreamActivationsRequest.FromString(raw)
    theirs.DiscardUnknownFields()
    if isinstance(read, Piece):
        assert generated(read) == theirs
        return
    theirs.step.segment = 0  # of looped models, which nobody runs yet
    for spec, tensor in zip(theirs.step.tensors, read.step.tensors, strict=True):
        assert spec.data == (b"" if isinstance(tensor.data, bytearray) else bytes(tensor.data or b""))
        spec.ClearField("data")
    assert generated(read._replace(carried_bytes=0)) == theirs


@given(st.one_of(PIECES, STEPS, STEPS.map(usual)), st.data())
def test_what_is_read_of_a_damaged_message_is_what_the_generated_code_reads(
    sent: Piece | frames.Step, data: st.DataObject
) -> None:
    raw = bytearray(encode(sent if isinstance(sent, Piece) else step_of(sent)))
    for _ in range(data.draw(st.integers(1, 2))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 60)))] = data.draw(st.integers(0, 255))
    assert_reads_as_generated(bytes(raw))


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param(b"\x00\x01", id="field number 0"),
        pytest.param(b"\x2a\x02\x00\x01", id="field number 0 in a span"),
        pytest.param(b"\x32\x07\x10\x01\x1a\x01\x00\x00\x01", id="field number 0 in a tensor"),
        pytest.param(b"\x2a\x05\x08\x01", id="a span beyond the end"),
        pytest.param(b"\x2a\x02\x08\x80\x01", id="a varint beyond its span"),
        pytest.param(b"\x32\x04\x10\x01\x1a\x01\x80\x01", id="a varint beyond its shape"),
        pytest.param(b"\x08" + b"\xff" * 10, id="a varint without an end"),
        pytest.param(b"\x0d\x01\x01\x01\x01", id="a number of fixed size"),
        pytest.param(b"\x2a\x04\x10\x80\x80\x80\x80\x20", id="a position of 34 bits"),
        pytest.param(b"\x20\xff\xff\xff\xff\x7f", id="a length of 35 bits"),
        pytest.param(b"\x32\x06\x10\x81\x80\x80\x80\x10", id="an element type of 33 bits"),
        pytest.param(b"\x8a\x08\x01\x01", id="a field that nobody knows"),
    ],
)
def test_what_is_unusual_is_left_to_the_generated_code(inner: bytes) -> None:
    raw = b"\x08\x01\x22" + bytes((len(inner),)) + inner
    assert wire.read(raw) is None
