"""What goes into and comes out of a stage: plain values, free of mlx and of protobuf.

They mirror the entries of the log in ``proto/tandem/v1/pipeline.proto``; ``node/links`` translates. Nothing changes one
once it is made; those that each token needs several of are not frozen all the same, because a frozen dataclass takes
twice as long to make.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ElementType(enum.IntEnum):
    """Element type of a tensor on the wire, little-endian; the numbers are those of ``tandem.v1.DataType``."""

    FLOAT16 = 1
    BFLOAT16 = 2
    FLOAT32 = 3
    INT32 = 4
    UINT32 = 5
    BOOL = 6

    @property
    def size(self) -> int:
        """Bytes per element."""
        return _SIZES[self]


_SIZES = {
    ElementType.FLOAT16: 2,
    ElementType.BFLOAT16: 2,
    ElementType.FLOAT32: 4,
    ElementType.INT32: 4,
    ElementType.UINT32: 4,
    ElementType.BOOL: 1,
}


@dataclass(slots=True)
class Tensor:
    """One tensor that crosses a cut, in the order of the plan's slots; ``data`` is C order, None where the model
    passes None."""

    element: ElementType
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview | None


class SpanError(enum.IntEnum):
    """Why a row failed; the numbers are those of ``tandem.v1.SpanError``."""

    POSITION_MISMATCH = 1
    OUT_OF_KV = 2
    UNKNOWN_SEQUENCE = 3
    PREFIX_LOST = 4
    INTERNAL = 5


@dataclass(slots=True)
class Span:
    """Consecutive tokens of one sequence: one row of a step.

    ``position`` is the absolute position of the first token and must equal the sequence's KV length;
    ``return_rows`` says how many hidden rows, at the end, the head wants back.
    """

    sequence_id: int
    position: int
    token_count: int
    return_rows: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that failed on some stage; its data travels as zeros so that the shape stays."""

    sequence_id: int
    error: SpanError
    kv_length: int
    message: str


@dataclass(slots=True)
class Step:
    """One rectangular forward pass ``[len(spans), length]`` over one lane, and what crosses the cut to the receiver."""

    step_id: int
    lane: int
    length: int
    spans: tuple[Span, ...]
    tensors: tuple[Tensor, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def byte_count(self) -> int:
        """Bytes of all tensors."""
        count = 0
        for tensor in self.tensors:
            count += len(tensor.data or b"")
        return count


@dataclass(frozen=True, slots=True)
class OpenSequence:
    """Makes room for a sequence that may grow to ``max_tokens`` positions."""

    sequence_id: int
    generation_id: str
    max_tokens: int
    prefix_id: int = 0
    prefix_tokens: int = 0
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class TruncateSequence:
    """Keeps positions below ``length``."""

    sequence_id: int
    length: int


@dataclass(frozen=True, slots=True)
class KeepPrefix:
    """Keeps the first ``length`` positions of a sequence under a new handle."""

    prefix_id: int
    sequence_id: int
    length: int


@dataclass(frozen=True, slots=True)
class DropPrefix:
    """Forgets a kept prefix."""

    prefix_id: int


@dataclass(frozen=True, slots=True)
class CloseSequence:
    """Frees a sequence."""

    sequence_id: int


Entry = OpenSequence | Step | TruncateSequence | KeepPrefix | DropPrefix | CloseSequence
"""One entry of the log; every stage applies entries in order and passes them on."""


@dataclass(slots=True)
class StageStatistics:
    """Live figures of one stage."""

    live_sequences: int = 0
    kv_bytes: int = 0
    completed_steps: int = 0
    decode_steps: int = 0
    decode_rows: int = 0

    @property
    def mean_decode_batch(self) -> float:
        """Mean rows per decode step since loading; 0 before the first."""
        return self.decode_rows / self.decode_steps if self.decode_steps else 0.0
