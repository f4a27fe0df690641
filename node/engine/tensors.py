"""Arrays to bytes and back, without a detour over another element type."""

from __future__ import annotations

from typing import Any, Literal, cast

import mlx.core as mx
from typing_extensions import Buffer

from node.engine.frames import ElementType, Tensor

_TO_ELEMENT = {
    mx.float16: ElementType.FLOAT16,
    mx.bfloat16: ElementType.BFLOAT16,
    mx.float32: ElementType.FLOAT32,
    mx.int32: ElementType.INT32,
    mx.uint32: ElementType.UINT32,
    mx.bool_: ElementType.BOOL,
}
_TO_DTYPE = {element: dtype for dtype, element in _TO_ELEMENT.items()}
_CARRIER: dict[int, Literal["B", "H", "I"]] = {1: "B", 2: "H", 4: "I"}
_COPY_BELOW = 64 * 1024


def to_tensors(arrays: list[mx.array | None]) -> tuple[Tensor, ...]:
    """Evaluates ``arrays`` (together with nothing else) and gives their bytes; small ones are copied, large ones are
    views of evaluated memory that stay valid as long as they are referenced.

    Raises:
        TypeError: an element type that the wire does not know.
    """
    contiguous = [None if array is None else mx.contiguous(array) for array in arrays]
    mx.eval([array for array in contiguous if array is not None])
    return tuple(_tensor(array) for array in contiguous)


def _tensor(array: mx.array | None) -> Tensor:
    if array is None:
        return Tensor(ElementType.FLOAT32, (), None)
    element = _TO_ELEMENT.get(array.dtype)
    if element is None:
        raise TypeError(f"no element type on the wire for {array.dtype}")
    shape = tuple(array.shape)
    if array.size == 0:
        return Tensor(element, shape, b"")
    view = memoryview(cast(Buffer, array if array.ndim else array.reshape(1))).cast("B")
    return Tensor(element, shape, bytes(view) if view.nbytes < _COPY_BELOW else view)


def to_array(tensor: Tensor) -> mx.array | None:
    """The array behind a tensor: one copy.

    Raises:
        ValueError: the byte count does not fit the shape.
    """
    if tensor.data is None:
        return None
    count = 1
    for size in tensor.shape:
        count *= size
    if len(tensor.data) != count * tensor.element.size:
        raise ValueError(f"{len(tensor.data)} bytes for {tensor.element.name}{list(tensor.shape)}")
    dtype = _TO_DTYPE[tensor.element]
    if count == 0:
        return mx.zeros(tensor.shape, dtype)
    carrier = mx.array(cast(Any, memoryview(tensor.data).cast(_CARRIER[tensor.element.size])))
    return (carrier.astype(mx.bool_) if dtype == mx.bool_ else carrier.view(dtype)).reshape(tensor.shape)
