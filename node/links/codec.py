"""Entries of the log to messages and back; tensors travel in their step's own message, or behind it in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.message import DecodeError

from node.engine import frames
from node.links import wire
from node.links.wire import MAX_STEP_BYTES, Piece, StepMessage
from tandem.errors import LinkError
from tandem.v1 import pipeline_pb2 as pb

INLINE_BYTES: Final = 256 * 1024
"""A step whose tensors have no more than this together carries them in its own message: that is 32 rows of 8 KiB, and
a message more costs 100 to 200 µs, which is more than the copies that it saves."""

_ERRORS: Final[dict[int, frames.SpanError]] = {int(error): error for error in frames.SpanError}

Message = pb.StreamActivationsRequest | StepMessage | Piece


def encode(message: Message) -> bytes:
    """The bytes of a message on the wire."""
    if isinstance(message, StepMessage):
        return _step_message(message).SerializeToString()
    if isinstance(message, Piece):
        return wire.write_piece(message)
    return message.SerializeToString()


def decode(data: bytes) -> Message:
    """The message behind bytes from the wire; a piece's data is a view into them.

    Raises:
        LinkError: the bytes are not a message of the log, or a step has impossible figures.
    """
    usual = wire.read(data)
    if usual is not None:
        return usual
    try:
        message = pb.StreamActivationsRequest.FromString(data)
    except DecodeError as error:
        raise LinkError(f"garbage on the link: {len(data)} bytes are no entry of the log") from error
    match message.WhichOneof("entry"):
        case "piece":
            piece = message.piece
            return Piece(message.log_index, piece.step_id, piece.slot, piece.offset, piece.data)
        case "step":
            carried = sum(len(spec.data) for spec in message.step.tensors)
            return StepMessage(message.log_index, _step(message.step), carried)
        case _:
            return message


def carried_bytes(message: Message) -> int:
    """Bytes of tensors in a message: they need credit."""
    return 0 if isinstance(message, pb.StreamActivationsRequest) else message.carried_bytes


def to_messages(entry: frames.Entry, piece_bytes: int, log_index: int) -> Iterator[Message]:
    """The messages of one entry, numbered from ``log_index``: the entry's own, then its tensors in pieces if they have
    more than ``INLINE_BYTES`` or ``piece_bytes``."""
    if not isinstance(entry, frames.Step):
        yield _other(entry, log_index)
        return
    size = entry.byte_count
    inline = size <= INLINE_BYTES and size <= piece_bytes
    yield StepMessage(log_index, entry, size if inline else 0)
    if inline:
        return
    for slot, tensor in enumerate(entry.tensors):
        view = memoryview(tensor.data or b"")
        for offset in range(0, len(view), piece_bytes):
            log_index += 1
            yield Piece(log_index, entry.step_id, slot, offset, view[offset : offset + piece_bytes])


def from_message(message: pb.StreamActivationsRequest) -> frames.Entry:
    """The entry of a message that is neither step nor piece.

    Raises:
        LinkError: not an entry.
    """
    match message.WhichOneof("entry"):
        case "open":
            opened = message.open
            return frames.OpenSequence(
                opened.sequence_id,
                opened.generation_id,
                opened.max_tokens,
                opened.prefix_id,
                opened.prefix_tokens,
                opened.traceparent,
            )
        case "truncate":
            return frames.TruncateSequence(message.truncate.sequence_id, message.truncate.length)
        case "keep_prefix":
            keep = message.keep_prefix
            return frames.KeepPrefix(keep.prefix_id, keep.sequence_id, keep.length)
        case "drop_prefix":
            return frames.DropPrefix(message.drop_prefix.prefix_id)
        case "close":
            return frames.CloseSequence(message.close.sequence_id)
        case other:
            raise LinkError(f"unexpected {other or 'empty message'} in the log")


class Assembler:
    """Puts the messages of a link together again: dense indices, whole tensors.

    ``add`` gives an entry as soon as it is complete. Any breach of the rules raises LinkError, after which the
    assembler is of no further use.
    """

    def __init__(self) -> None:
        self._next = 1
        self._step: frames.Step | None = None
        self._slots: list[int] = []
        self._filled = 0

    def index(self, log_index: int) -> None:
        """Checks that the log has no gap."""
        if log_index != self._next:
            raise LinkError(f"gap in the log: {log_index} after {self._next - 1}")
        self._next += 1

    def add(self, message: Message) -> frames.Entry | None:
        """Takes the next message; the entry that it completes, if any."""
        self.index(message.log_index)
        if isinstance(message, Piece):
            return self._add_piece(message)
        if self._step is not None:
            raise LinkError(f"step {self._step.step_id} is not complete")
        if not isinstance(message, StepMessage):
            return from_message(message)
        step = message.step
        slots = [slot for slot, tensor in enumerate(step.tensors) if isinstance(tensor.data, bytearray)]
        if not slots:
            return step
        self._step, self._slots, self._filled = step, slots, 0
        return None

    def end(self) -> None:
        """Checks that the log may end here."""
        if self._step is not None:
            raise LinkError(f"the link ended in the middle of step {self._step.step_id}")

    def _add_piece(self, piece: Piece) -> frames.Entry | None:
        step = self._step
        if step is None or piece.step_id != step.step_id:
            raise LinkError(f"a piece of step {piece.step_id} out of turn")
        slot = self._slots[0]
        buffer = step.tensors[slot].data
        assert isinstance(buffer, bytearray)
        end = piece.offset + len(piece.data)
        if piece.slot != slot or piece.offset != self._filled or end > len(buffer) or not len(piece.data):
            raise LinkError(f"a piece of step {piece.step_id} does not fit: slot {piece.slot}, offset {piece.offset}")
        buffer[piece.offset : end] = piece.data
        self._filled = end
        if end == len(buffer):
            self._slots, self._filled = self._slots[1:], 0
            if not self._slots:
                self._step = None
                return step
        return None


def _other(entry: frames.Entry, log_index: int) -> pb.StreamActivationsRequest:
    """The message of an entry that is no step."""
    message = pb.StreamActivationsRequest(log_index=log_index)
    match entry:
        case frames.OpenSequence():
            message.open.sequence_id = entry.sequence_id
            message.open.generation_id = entry.generation_id
            message.open.prefix_id = entry.prefix_id
            message.open.prefix_tokens = entry.prefix_tokens
            message.open.max_tokens = entry.max_tokens
            message.open.traceparent = entry.traceparent
        case frames.TruncateSequence():
            message.truncate.sequence_id = entry.sequence_id
            message.truncate.length = entry.length
        case frames.KeepPrefix():
            message.keep_prefix.prefix_id = entry.prefix_id
            message.keep_prefix.sequence_id = entry.sequence_id
            message.keep_prefix.length = entry.length
        case frames.DropPrefix():
            message.drop_prefix.prefix_id = entry.prefix_id
        case frames.CloseSequence():
            message.close.sequence_id = entry.sequence_id
    return message


def _step_message(message: StepMessage) -> pb.StreamActivationsRequest:
    """Field by field: arguments by name take half as long again."""
    step, inline = message.step, message.carried_bytes > 0
    request = pb.StreamActivationsRequest()
    request.log_index = message.log_index
    header = request.step
    header.step_id = step.step_id
    header.batch_id = step.lane
    header.length = step.length
    for span in step.spans:
        row = header.spans.add()
        row.sequence_id = span.sequence_id
        row.position = span.position
        row.token_count = span.token_count
        row.return_rows = span.return_rows
    for slot, tensor in enumerate(step.tensors):
        data = tensor.data
        spec = header.tensors.add()
        spec.slot = slot
        spec.data_type = int(tensor.element)  # type: ignore[assignment]
        spec.shape.extend(tensor.shape)
        if data is None:
            spec.is_null = True
            continue
        spec.byte_count = len(data)
        if inline:
            spec.data = bytes(data)
    for failure in step.failures:
        header.failures.add(
            sequence_id=failure.sequence_id,
            error=int(failure.error),
            kv_length=failure.kv_length,
            message=failure.message,
        )
    return request


def _step(message: pb.Step) -> frames.Step:
    """A step that ``wire`` left to the generated code."""
    step_id = message.step_id
    tensors = []
    room = MAX_STEP_BYTES
    for slot, spec in enumerate(message.tensors):
        if spec.slot != slot:
            raise LinkError(f"step {step_id}: slot {spec.slot} is out of order")
        size, shape = spec.byte_count, tuple(spec.shape)
        tensors.append(wire.tensor_of(step_id, room, spec.data_type, shape, size, spec.is_null, spec.data))
        room -= size
    spans = [frames.Span(s.sequence_id, s.position, s.token_count, s.return_rows) for s in message.spans]
    failures = [_failure(failure) for failure in message.failures]
    return frames.Step(step_id, message.batch_id, message.length, tuple(spans), tuple(tensors), tuple(failures))


def _failure(message: pb.SpanFailure) -> frames.Failure:
    error = _ERRORS.get(message.error)
    if error is None:
        raise LinkError(f"a row failed for no known reason: {message.error}")
    return frames.Failure(message.sequence_id, error, message.kv_length, message.message)
