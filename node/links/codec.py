"""Entries of the log to protobuf messages and back; a tensor travels behind its step in pieces.

A piece is encoded and decoded by hand: the generated code copies its bytes twice on each side, which costs more than
the wire. ``tests/node/links/test_codec.py`` proves the bytes equal to those of the generated code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

from google.protobuf.message import DecodeError

from node.engine import frames
from tandem.errors import LinkError
from tandem.v1 import pipeline_pb2 as pb

MAX_STEP_BYTES: Final = 1 << 30
"""A step that claims more than this is taken for garbage."""

# CPython's own constructor: unlike ``bytearray(size)`` it leaves the memory as it is, and clearing 16 MiB takes a tenth
# of their journey. An assembler gives nothing away before each byte is written.
_new_buffer: Final = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_buffer.restype = ctypes.py_object
_new_buffer.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t]

_ELEMENTS: Final[dict[int, frames.ElementType]] = {int(element): element for element in frames.ElementType}
_ERRORS: Final[dict[int, frames.SpanError]] = {int(error): error for error in frames.SpanError}


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a tensor of the step before it; ``log_index`` is its place in the log."""

    log_index: int
    step_id: int
    slot: int
    offset: int
    data: bytes | memoryview


Message = pb.StreamActivationsRequest | Piece


def encode(message: Message) -> bytes:
    """The bytes of a message on the wire."""
    if not isinstance(message, Piece):
        return message.SerializeToString()
    inner = b"".join(
        (
            _field(1, message.step_id),
            _field(2, message.slot),
            _field(3, message.offset),
            b"\x22" + _varint(len(message.data)) if len(message.data) else b"",
        )
    )
    size = len(inner) + len(message.data)
    head = _field(1, message.log_index) + b"\x2a" + _varint(size) + inner
    return b"".join((head, message.data))


def decode(data: bytes) -> Message:
    """The message behind bytes from the wire; a piece's data is a view into them.

    Raises:
        LinkError: the bytes are not a message of the log.
    """
    try:
        piece = _decode_piece(data)
        if piece is not None:
            return piece
        message = pb.StreamActivationsRequest.FromString(data)
    except (DecodeError, IndexError, ValueError) as error:
        raise LinkError(f"garbage on the link: {len(data)} bytes are no entry of the log") from error
    if message.WhichOneof("entry") != "piece":
        return message
    other = message.piece  # written in another order than ours
    return Piece(message.log_index, other.step_id, other.slot, other.offset, other.data)


def to_messages(entry: frames.Entry, piece_bytes: int, log_index: int) -> Iterator[Message]:
    """The messages of one entry, numbered from ``log_index``: the entry's own, then its tensors in pieces."""
    message = _entry_message(entry)
    message.log_index = log_index
    yield message
    if isinstance(entry, frames.Step):
        for slot, tensor in enumerate(entry.tensors):
            if tensor.data is None:
                continue
            view = memoryview(tensor.data)
            for offset in range(0, len(view), piece_bytes):
                log_index += 1
                yield Piece(log_index, entry.step_id, slot, offset, view[offset : offset + piece_bytes])


def from_message(message: pb.StreamActivationsRequest) -> frames.Entry:
    """The entry of a message that is no piece; a step has buffers for its tensors, which ``Assembler`` fills.

    Raises:
        LinkError: not an entry, or one with impossible figures.
    """
    match message.WhichOneof("entry"):
        case "step":
            return _step(message.step)
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
        entry = from_message(message)
        if isinstance(entry, frames.Step):
            slots = [slot for slot, tensor in enumerate(entry.tensors) if tensor.data]
            if slots:
                self._step, self._slots, self._filled = entry, slots, 0
                return None
        return entry

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


def _entry_message(entry: frames.Entry) -> pb.StreamActivationsRequest:
    message = pb.StreamActivationsRequest()
    match entry:
        case frames.Step():
            _fill_step(message.step, entry)
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


def _fill_step(message: pb.Step, step: frames.Step) -> None:
    message.step_id = step.step_id
    message.batch_id = step.lane
    message.length = step.length
    for span in step.spans:
        message.spans.add(
            sequence_id=span.sequence_id,
            position=span.position,
            token_count=span.token_count,
            return_rows=span.return_rows,
        )
    for slot, tensor in enumerate(step.tensors):
        message.tensors.add(
            slot=slot,
            data_type=int(tensor.element),
            shape=tensor.shape,
            byte_count=0 if tensor.data is None else len(tensor.data),
            is_null=tensor.data is None,
        )
    for failure in step.failures:
        message.failures.add(
            sequence_id=failure.sequence_id,
            error=int(failure.error),
            kv_length=failure.kv_length,
            message=failure.message,
        )


def _step(message: pb.Step) -> frames.Step:
    """Plain loops: between two tokens everything has left the processor's caches, and each call more is felt."""
    step_id = message.step_id
    tensors: list[frames.Tensor] = []
    total = 0
    for spec in message.tensors:
        element = _ELEMENTS.get(spec.data_type)
        if element is None or spec.slot != len(tensors):
            raise LinkError(f"step {step_id}: slot {spec.slot} is out of order or of no known element type")
        shape = tuple(spec.shape)
        data = None
        if not spec.is_null:
            size = spec.byte_count
            total += size
            if size != prod(shape) * element.size:
                raise LinkError(f"step {step_id}: {size} bytes for {element.name}{list(shape)}")
            if total > MAX_STEP_BYTES:
                raise LinkError(f"step {step_id} claims more than {MAX_STEP_BYTES} bytes")
            data = _new_buffer(None, size)
        tensors.append(frames.Tensor(element, shape, data))
    spans = [frames.Span(s.sequence_id, s.position, s.token_count, s.return_rows) for s in message.spans]
    failures = [_failure(failure) for failure in message.failures]
    return frames.Step(step_id, message.batch_id, message.length, tuple(spans), tuple(tensors), tuple(failures))


def _failure(message: pb.SpanFailure) -> frames.Failure:
    error = _ERRORS.get(message.error)
    if error is None:
        raise LinkError(f"a row failed for no known reason: {message.error}")
    return frames.Failure(message.sequence_id, error, message.kv_length, message.message)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int) -> bytes:
    """A varint field as proto3 writes it: absent when zero."""
    return bytes((number << 3,)) + _varint(value) if value else b""


def _read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _decode_piece(data: bytes) -> Piece | None:
    """A piece exactly as ``encode`` writes it, or None: the generated code then reads whatever else it is."""
    if not data or data[0] != 0x08:
        return None
    log_index, at = _read_varint(data, 1)
    if at >= len(data) or data[at] != 0x2A:
        return None
    size, at = _read_varint(data, at + 1)
    if at + size != len(data):
        return None
    fields = [0, 0, 0, 0]
    while at < len(data):
        tag = data[at]
        if tag == 0x22:
            length, at = _read_varint(data, at + 1)
            if at + length != len(data):
                return None
            if max(log_index, *fields) >= 1 << 64 or fields[2] >= 1 << 32:
                return None
            return Piece(log_index, fields[1], fields[2], fields[3], memoryview(data)[at:])
        if tag not in (0x08, 0x10, 0x18):
            return None
        fields[tag >> 3], at = _read_varint(data, at + 1)
    return None
