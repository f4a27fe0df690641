"""What follows from a format alone: the literals of its states."""

from functools import lru_cache

from parsers.format import (
    END,
    BraceArguments,
    Capture,
    Edge,
    ElementArguments,
    Expect,
    Format,
    JsonArguments,
    JsonCall,
    PythonArguments,
    RawValue,
    State,
)
from parsers.literals import Literals


class Tables:
    """Each state's literals, those that end a call wherever they stand, and those that no name has in it."""

    __slots__ = ("behind", "edges", "never_names", "out")

    def __init__(self, spec: Format) -> None:
        self.edges: dict[str, Literals[Edge]] = {}
        self.never_names = (*spec.openers, *spec.ends, *(thought.close for thought in spec.thoughts))
        out = {marker: Edge(marker, END, keep=True) for marker in (*spec.openers, *spec.ends)}
        for name, state in spec.states.items():
            if isinstance(state, (Expect, Capture, RawValue)):
                # The line feed that a raw value's end may have before it belongs to the end.
                also = "\n" if isinstance(state, RawValue) and state.newline else ""
                self.edges[name] = Literals([(edge.literal, edge) for edge in state.edges], also)
            if isinstance(state, Expect):
                ends = (edge for edge in state.edges if edge.to == END and _is_marker(edge))
                out.update({edge.literal: Edge(edge.literal, END) for edge in ends})
        self.out = Literals(out.items())
        # What ends arguments in the midst of them, by the state behind them.
        self.behind = {
            state.to: Literals({**out, **_markers(spec.states[state.to])}.items())
            for state in spec.states.values()
            if isinstance(state, (JsonCall, JsonArguments, PythonArguments, BraceArguments, ElementArguments))
        }

    def ends(self, literal: str) -> bool:
        """Whether a call ends with this literal."""
        return isinstance(self.out.at(literal, 0, True), tuple)


def _is_marker(edge: Edge) -> bool:
    """Whether the literal is so much of a marker that it is one wherever it stands."""
    return len(edge.literal) > 1 and not edge.literal[0].isalnum()


def _markers(state: State) -> dict[str, Edge]:
    edges = state.edges if isinstance(state, Expect) else ()
    return {edge.literal: edge for edge in edges if _is_marker(edge)}


@lru_cache(maxsize=256)
def tables_of(spec: Format) -> Tables:
    """The tables of a format, made once."""
    return Tables(spec)
