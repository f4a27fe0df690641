"""The two messages of the log that every token needs, by hand: a piece of a tensor, and reading a step.

The generated code copies a piece's bytes twice on each side. Reading a step through it is slow in another way: between
two tokens the forward pass has driven the code out of the processor's caches, and fetching each field costs more than
a loop over the bytes (one row of 8 KiB, caches cold: 80 µs, here 50; writing one is as quick either way).

What is written are the bytes that the generated code would write, and what is read is what it would read; whatever
looks unusual (other fields, figures out of range) is left to it. ``tests/node/links/test_wire.py`` proves both.
"""

from __future__ import annotations

import ctypes
from math import prod
from typing import Final, NamedTuple

from node.engine.frames import ElementType, Span, Step, Tensor
from tandem.errors import LinkError

MAX_STEP_BYTES: Final = 1 << 30
"""A step that claims more than this is taken for garbage."""

# CPython's own constructor: unlike ``bytearray(size)`` it leaves the memory as it is, and clearing 16 MiB takes a tenth
# of their journey. An assembler gives nothing away before each byte is written.
_new_buffer: Final = ctypes.pythonapi.PyByteArray_FromStringAndSize
_new_buffer.restype = ctypes.py_object
_new_buffer.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t]

_ELEMENTS: Final[dict[int, tuple[ElementType, int]]] = {int(kind): (kind, kind.size) for kind in ElementType}


class Piece(NamedTuple):
    """Part of a tensor of the step before it; ``log_index`` is its place in the log."""

    log_index: int
    step_id: int
    slot: int
    offset: int
    data: bytes | memoryview

    @property
    def carried_bytes(self) -> int:
        """Bytes of tensors in it, which need credit."""
        return len(self.data)


class StepMessage(NamedTuple):
    """A step's own message with ``carried_bytes`` of its tensors, which need credit: all or none of them where it is to
    be written. A tensor that it was read without has a buffer (bytearray) for the pieces that follow."""

    log_index: int
    step: Step
    carried_bytes: int


def write_piece(piece: Piece) -> bytes:
    """The bytes of a piece: one copy of its data."""
    inner, head = bytearray(), bytearray()
    _put(inner, 0x08, piece.step_id)
    _put(inner, 0x10, piece.slot)
    _put(inner, 0x18, piece.offset)
    _put(inner, 0x22, len(piece.data))
    _put(head, 0x08, piece.log_index)
    _put(head, 0x2A, len(inner) + len(piece.data))
    return b"".join((head, inner, piece.data))


def read(data: bytes) -> Piece | StepMessage | None:
    """The piece (its data is a view) or step behind bytes from the wire; None when they are something else, or look
    unusual: the generated code then says what they are.

    Raises:
        LinkError: a step with impossible figures.
    """
    try:
        if data[0] != 0x08:
            return None
        log_index, at = _varint(data, 1)
        tag = data[at]
        size, at = _varint(data, at + 1)
        if at + size != len(data):
            return None
        if tag == 0x22:
            return _read_step(data, log_index, at)
        return _read_piece(data, log_index, at) if tag == 0x2A else None
    except (ValueError, IndexError):
        return None


def tensor_of(
    step_id: int, room: int, data_type: int, shape: tuple[int, ...], size: int, null: bool, data: bytes
) -> Tensor:
    """The tensor of a step behind the figures of its ``TensorSpec``: ``size`` bytes, of which it may have ``room``;
    ``data`` is empty where pieces follow.

    Raises:
        LinkError: they are impossible.
    """
    kind = _ELEMENTS.get(data_type)
    if kind is None:
        raise LinkError(f"step {step_id}: there is no element type {data_type}")
    if len(data) != size and data:
        raise LinkError(f"step {step_id}: {len(data)} bytes where {size} are announced")
    if null:
        if size:
            raise LinkError(f"step {step_id}: {size} bytes of a tensor that is null")
        return Tensor(kind[0], shape, None)
    if size != prod(shape) * kind[1]:
        raise LinkError(f"step {step_id}: {size} bytes for {kind[0].name}{list(shape)}")
    if size > room:
        raise LinkError(f"step {step_id} claims more than {MAX_STEP_BYTES} bytes")
    return Tensor(kind[0], shape, data if data or not size else _new_buffer(None, size))


def _read_piece(data: bytes, log_index: int, at: int) -> Piece | None:
    numbers = [_UNTOUCHED, 0, 0, 0]
    tag, size, at = _numbers(data, at, len(data), numbers)
    if tag != 0x22 or at + size != len(data) or numbers[0] != _UNTOUCHED or numbers[2] >> 32:
        return None
    return Piece(log_index, numbers[1], numbers[2], numbers[3], memoryview(data)[at:])


def _read_step(data: bytes, log_index: int, at: int) -> StepMessage | None:
    """Plain loops and lists by field number: what is cold costs by the line."""
    numbers = [_UNTOUCHED, 0, 0, 0, 0]
    spans: list[Span] = []
    tensors: list[Tensor] = []
    room, carried = MAX_STEP_BYTES, 0
    while True:
        tag, size, at = _numbers(data, at, len(data), numbers)
        if not tag:
            break
        end = at + size
        inner = [_UNTOUCHED, 0, 0, 0, 0, 0, 0]
        if tag == 0x2A:
            tag, _, at = _numbers(data, at, end, inner)
            zero, sequence_id, position, count, rows, _, _ = inner
            spans.append(Span(sequence_id, position, count, rows))
            narrow = position | count | rows
        elif tag == 0x32:
            shape: tuple[int, ...] = ()
            body = b""
            while True:
                tag, size, at = _numbers(data, at, end, inner)
                if tag == 0x1A:
                    shape = _varints(data, at, at + size)
                elif tag == 0x32:
                    body = data[at : at + size]
                else:
                    break
                at += size
            zero, slot, kind, _, byte_count, null, _ = inner
            narrow = kind
            for length in shape:
                narrow |= length
            if slot != len(tensors) or narrow >> 32:
                return None
            tensors.append(tensor_of(numbers[1], room, kind, shape, byte_count, null != 0, body))
            room -= byte_count
            carried += len(body)
        else:
            return None
        if tag or at != end or zero != _UNTOUCHED or narrow >> 32:
            return None
    zero, step_id, lane, _, length = numbers
    if zero != _UNTOUCHED or (lane | length) >> 32:
        return None
    return StepMessage(log_index, Step(step_id, lane, length, tuple(spans), tuple(tensors)), carried)


_UNTOUCHED: Final = -1
"""Stands at the field number 0, which no message has."""


def _numbers(data: bytes, at: int, end: int, into: list[int]) -> tuple[int, int, int]:
    """Reads varint fields into a list by field number until another one comes: its tag, its size, and where it begins;
    a tag of 0 at the end. Raises IndexError for a field that the list has no room for, or where the bytes end."""
    while at < end:
        tag = data[at]
        value = data[at + 1]
        at += 2
        if value > 0x7F:
            value, at = _varint(data, at - 1)
        if tag & 7:
            return tag, value, at
        into[tag >> 3] = value
    return 0, 0, at


def _varints(data: bytes, at: int, end: int) -> tuple[int, ...]:
    values = []
    while at < end:
        value = data[at]
        at += 1
        if value > 0x7F:
            value, at = _varint(data, at - 1)
        values.append(value)
    if at != end:
        raise ValueError
    return tuple(values)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint of up to 63 bits, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift >= 63:
            raise ValueError


def _put(out: bytearray, tag: int, value: int) -> None:
    """A varint field, or a tag and a size, as proto3 writes it: absent when zero."""
    if value:
        out.append(tag)
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
