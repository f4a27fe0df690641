"""Which markers count in the answer, and which in a thought."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from parsers.format import Format, Thought
from parsers.literals import Literals
from parsers.output import CONTENT, REASONING
from parsers.tables import tables_of


@dataclass(frozen=True, slots=True)
class Marker:
    """What a literal means in the answer or in a thought."""

    does: Literal["call", "think", "answer", "drop", "end"]
    state: str = ""
    thought: Thought | None = None
    # Line feeds of the markup before and behind it.
    newlines: int = 0
    after: int = 0

    @property
    def stray(self) -> str:
        """Where the markers of the thought count without their fellow."""
        return self.thought.stray if self.thought is not None else ""


class Mode:
    """The markers that count in the answer, or in a thought."""

    __slots__ = ("kind", "markers", "newlines")

    def __init__(self, kind: int, markers: dict[str, Marker]) -> None:
        self.kind = kind
        self.newlines = max((marker.newlines for marker in markers.values()), default=0)
        self.markers = Literals(markers.items(), "\n" if self.newlines else "")


@lru_cache(maxsize=256)
def modes_of(spec: Format, calls: bool) -> tuple[Mode, Mode]:
    """The answer's mode and the thought's; without `calls` no marker opens one."""
    tables = tables_of(spec)
    openers = {literal: Marker("call", state, newlines=spec.newlines) for literal, state in spec.openers.items()}
    if not (calls or spec.messages):
        openers = {}
    ends = {literal: Marker("end") for literal in spec.ends}
    closing = {thought.close for thought in spec.thoughts}
    drops = {}
    for literal in sorted(spec.dropped, key=len):
        # Where it is listed with line feeds, they belong to it if they are there.
        bare = literal.strip("\n") or literal
        if not (calls or spec.messages) and bare not in closing and tables.ends(literal):
            continue  # what ends calls is as much text as what opens them
        before, _, after = literal.partition(bare)
        drops[bare] = Marker("drop", newlines=len(before), after=len(after))
    answer: dict[str, Marker] = {}
    thinking = dict(ends)
    for thought in spec.thoughts:
        answer[thought.open] = Marker("think", thought=thought)
        answer[thought.close] = Marker("answer", thought=thought, newlines=thought.before_close)
        thinking[thought.close] = Marker("answer", thought=thought, newlines=thought.before_close)
        thinking[thought.open] = Marker("think", thought=thought)
    answer |= drops | ends
    return Mode(CONTENT, answer | openers), Mode(REASONING, thinking | openers)
