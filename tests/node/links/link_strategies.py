"""Hypothesis strategies for what travels on links."""

from __future__ import annotations

from hypothesis import strategies as st

from node.engine import frames
from node.links.wire import Piece

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
