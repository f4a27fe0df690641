"""What crosses a cut: one slot per tensor, in the order of the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import mlx.core as mx


class Axis(Enum):
    """A size that is not the model's but the step's."""

    BATCH = "B"
    LENGTH = "L"
    ROWS = "BL"  # batch times length, flattened

    def size(self, batch: int, length: int) -> int:
        """The size for a step of that batch and length."""
        return {Axis.BATCH: batch, Axis.LENGTH: length, Axis.ROWS: batch * length}[self]


Dims = tuple[int | Axis, ...]


@dataclass(frozen=True)
class TensorShape:
    """Shape and dtype of one tensor of one step."""

    shape: tuple[int, ...]
    dtype: mx.Dtype

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes on the wire."""
        return prod(self.shape) * int(self.dtype.size)


@dataclass(frozen=True)
class Slot:
    """One tensor that crosses a cut.

    ``varies`` says that a size follows the context in a way of the model's own: then ``dims`` holds that of the trace.
    """

    name: str
    dims: Dims
    dtype: mx.Dtype
    varies: bool = False

    @property
    def batch_axis(self) -> int | None:
        """The axis along which the sequences of a batch lie, or None."""
        return self._axis(Axis.BATCH)

    @property
    def length_axis(self) -> int | None:
        """The axis along which the positions of a step lie, or None."""
        return self._axis(Axis.LENGTH)

    def shape(self, batch: int, length: int) -> TensorShape:
        """What the slot carries in a step of that batch and length."""
        return TensorShape(sized(self.dims, batch, length), self.dtype)

    def last_positions(self, array: mx.array, count: int) -> mx.array:
        """The last ``count`` positions; the array itself where there is no axis of positions."""
        axis = self.length_axis
        if axis is None or array.shape[axis] == count:
            return array
        return mx.split(array, [array.shape[axis] - count], axis=axis)[1]

    def take_rows(self, array: mx.array, rows: Sequence[int]) -> mx.array:
        """Those sequences of the batch, in that order; the array itself where there is no axis of sequences."""
        axis = self.batch_axis
        return array if axis is None else mx.take(array, mx.array(list(rows), mx.int32), axis=axis)

    def zero_rows(self, array: mx.array, rows: Sequence[int]) -> mx.array:
        """The array with zeros for those sequences of the batch, as if each had failed."""
        axis = self.batch_axis
        if axis is None or not rows:
            return array
        failed = set(rows)
        keep = mx.array([i not in failed for i in range(array.shape[axis])])
        shape = [1] * array.ndim
        shape[axis] = array.shape[axis]
        return mx.where(keep.reshape(shape), array, mx.zeros((), array.dtype))

    def __str__(self) -> str:
        sizes = "x".join(dim.value if isinstance(dim, Axis) else str(dim) for dim in self.dims)
        return f"{self.name}: {sizes or 'scalar'} {str(self.dtype).removeprefix('mlx.core.')}"

    def _axis(self, kind: Axis) -> int | None:
        return self.dims.index(kind) if kind in self.dims else None


def sized(dims: Dims, batch: int, length: int) -> tuple[int, ...]:
    """The dims of a step of that batch and length."""
    return tuple(dim.size(batch, length) if isinstance(dim, Axis) else dim for dim in dims)
