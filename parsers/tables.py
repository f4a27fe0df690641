"""What follows from a format alone: the literals of its states."""

from functools import lru_cache

from parsers.format import END, Capture, Edge, Expect, Format, RawValue
from parsers.literals import Literals


class Tables:
    """Each state's literals, those that end a call wherever they stand, and those that begin one."""

    __slots__ = ("edges", "openers", "out")

    def __init__(self, spec: Format) -> None:
        self.edges: dict[str, Literals[Edge]] = {}
        self.openers = tuple(spec.openers)
        out = {marker: Edge(marker, END, keep=True) for marker in (*spec.openers, *spec.ends)}
        for name, state in spec.states.items():
            if isinstance(state, (Expect, Capture, RawValue)):
                # The line feed that a raw value's end may have before it belongs to the end.
                also = "\n" if isinstance(state, RawValue) and state.newline else ""
                self.edges[name] = Literals([(edge.literal, edge) for edge in state.edges], also)
            if isinstance(state, Expect):
                out.update({edge.literal: edge for edge in state.edges if edge.to == END and len(edge.literal) > 1})
        self.out = Literals(out.items())

    def ends(self, literal: str) -> bool:
        """Whether a call ends with this literal."""
        return isinstance(self.out.at(literal, 0, True), tuple)


@lru_cache(maxsize=256)
def tables_of(spec: Format) -> Tables:
    """The tables of a format, made once."""
    return Tables(spec)
