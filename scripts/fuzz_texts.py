"""What the tool-call parsers are fuzzed with: stories, calls beside damage, and noise."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parsers import Format, ToolSpec
from parsers.writing import write_calls

Call = tuple[str, str]
Piece = tuple[str, bool]

_SCHEMA = (
    '{"properties": {"text": {"type": "string"}, "count": {"type": "integer"}, '
    '"note": {"type": ["string", "null"]}, "tags": {"type": "array"}, "config": {"type": "object", "properties": '
    '{"a": {"properties": {"b": {"items": {"type": ["integer", "object"]}}}}, "e": {"type": "boolean"}}}}}'
)
PING = ToolSpec("ping", '{"type": "object", "properties": {}}')
TOOL_SETS = [
    [PING, ToolSpec("update", _SCHEMA)],
    [ToolSpec("update", _SCHEMA), ToolSpec("up", _SCHEMA), PING, ToolSpec("ping-all.now")],
    [*(ToolSpec(f"tool_{number}", _SCHEMA) for number in range(40)), PING, ToolSpec("update", _SCHEMA)],
    # Nothing is known about the arguments.
    [ToolSpec("ping"), ToolSpec("update")],
    [ToolSpec("ping", "not JSON"), ToolSpec("update", '{"properties": []}')],
]
TYPED = 3
CALLS: list[Call] = [
    ("update", '{"text": "a {b: [c, \\"d\\"]} \\\\ } ] q <x> & \\n\\ttab", "count": 3}'),
    ("update", '{"config": {"a": {"b": [1, {"c": "d"}]}, "e": false}, "tags": ["x", "y, z"]}'),
    ("update", '{"text": "", "note": null}'),
    ("ping", "{}"),
]
OTHER: Call = ("other", '{"zz": "1", "q": [1, 2]}')
BITS = (
    """{ } [ ] ( ) " ' \\ ` ``` ~~~ , : = < > / | name "name": update ping text to= null 12 -0.5 1e9 \\u \\u00e9 """
    """"arguments": "parameters": {"name": words 🌆 ```json"""
)
ODDS = [*BITS.split(), "\n", "\n\n", " ", "\t", "\ud83c", "word and more "]
ALPHABET = "ab{}[]()\"'\\<>|/\n :,=`"
# What prose may hold beside words: none of it is markup by itself.
ASIDES = """a < b | {x} | [1, 2] | (so) | "yes" | it's | `code` | C:\\dir | 🌆 | = | <b> | 50 % | {"a": 1} | f(x)"""


class Source:
    """What is drawn from for one format."""

    def __init__(self, spec: Format) -> None:
        self.spec = spec
        edges = [edge.literal for state in spec.states.values() for edge in getattr(state, "edges", ())]
        markers = sorted(spec.markers)  # a set: one seed shall draw the same in each process
        self.literals = [one for one in (*markers, *spec.ends, *spec.dropped, *edges) if one]
        self.written = [write_calls(spec, [call]) for call in (*CALLS, OTHER)]
        self.written.append(write_calls(spec, [*CALLS, OTHER]))
        self.bits = [*self.literals, *ODDS]
        self.markers = sorted((one for one in markers if not re.search(r"\s", one)), key=len, reverse=True)
        # Whether a call opens with a marker that a vocabulary may have a token for.
        self.tokenized = self.written[3].strip().startswith(tuple(self.markers))
        # Only an answer that is nothing but calls has any.
        self.bare = bool(spec.bare) and not any(one in self.written[3] for one in spec.openers)


@dataclass
class Drawn:
    """A text, how it is to be read, and what must come out of it."""

    text: str
    kind: str
    tools: list[ToolSpec]
    end: str = "stop"
    options: dict[str, Any] = field(default_factory=dict)
    # The calls that must come out; None if that is open.
    calls: list[Call] | None = None
    # Whether what is known of the tools says which type each argument has.
    typed: bool = True
    # What must be the answer and the thought, part by part; None if that is open.
    prose: list[str] | None = None
    thought: str = ""
    # Whether the calls are only sure to be found if the markers are tokens.
    tokens_only: bool = False
    # The tokens of the vocabulary.
    vocabulary: list[str] = field(default_factory=list)


class Sower:
    """Writes prose in which each sown word occurs once."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._count = 0

    def word(self) -> str:
        self._count += 1
        return f"zq{self._count}x"

    def prose(self) -> str:
        """Some words, sown ones at both ends."""
        chance = self._chance
        parts = [self.word()]
        for _ in range(chance.randint(0, 4)):
            parts.append(chance.choice(ASIDES.split(" | ")) if chance.random() < 0.6 else self.word())
        return chance.choice([" ", " ", "\n", "\n\n"]).join([*parts, self.word()])

    def apart(self) -> str:
        """Prose with white space round it."""
        spaces = ["", "\n", "\n\n", " "]
        return self._chance.choice(spaces) + self.prose() + self._chance.choice(spaces)


def some_calls(chance: random.Random) -> list[Call]:
    return [chance.choice(CALLS) for _ in range(chance.randint(1, 3))]


def story(chance: random.Random, source: Source) -> Drawn:
    """What a model should write: a thought, perhaps, then prose and calls."""
    spec, sower, number = source.spec, Sower(chance), chance.randrange(len(TOOL_SETS))
    drawn = Drawn("", "story", TOOL_SETS[number], calls=[], prose=[], typed=number < TYPED)
    assert drawn.calls is not None and drawn.prose is not None
    if spec.thoughts and chance.random() < 0.5:
        thought = chance.choice(spec.thoughts)
        drawn.thought = sower.prose()
        opened = chance.randrange(3)
        if opened == 1:
            drawn.options["prompt_suffix"] = f"{sower.prose()}{thought.close} and {thought.open}"
        elif opened == 2:
            drawn.options["initial"] = "reasoning"
            thought = spec.thoughts[0]
        drawn.text = ("" if opened else thought.open) + drawn.thought + thought.close
    elif chance.random() < 0.3:
        drawn.options["prompt_suffix"] = sower.prose()
    for place in range(chance.randint(1, 4)):
        if place % 2 != (chance.random() < 0.1):
            calls = some_calls(chance)
            if not source.bare or not (drawn.prose or drawn.calls):
                drawn.text += write_calls(spec, calls)
                drawn.calls += calls
                continue
        drawn.prose.append(sower.apart())
        drawn.text += drawn.prose[-1]
    if not drawn.calls and chance.random() < 0.3:
        drawn.end = "length"
    return drawn


def beside(chance: random.Random, source: Source) -> Drawn:
    """Calls, one that breaks off, and calls again."""
    sower, written = Sower(chance), source.written[0]
    named = written.index("update")
    header = not source.tokenized or chance.random() < 0.6
    stop = chance.randint(min(3, named), named + 4) if header else chance.randrange(named + 6, len(written))
    before, after = some_calls(chance), some_calls(chance)
    parts = [sower.apart() for _ in range(2)]
    text = write_calls(source.spec, before) + parts[0] + written[:stop] + parts[1] + write_calls(source.spec, after)
    # Whoever has seen the name may take what follows for arguments, and a marker of several tokens for a string.
    return Drawn(text, "beside", chance.choice(TOOL_SETS), calls=[*before, *after], tokens_only=not header)


def noise(chance: random.Random, source: Source) -> Drawn:
    """One hostile text."""
    sower = Sower(chance)
    parts: list[str] = []
    for _ in range(chance.randint(1, 8)):
        kind = chance.random()
        if kind < 0.35:
            written = chance.choice(source.written)
            start = chance.randrange(len(written) + 1)
            parts.append(written[start : chance.randrange(start, len(written) + 1)])
        elif kind < 0.7:
            parts.append(chance.choice(source.bits))
        elif kind < 0.8:
            parts.append(chance.choice(source.written))
        elif kind < 0.9:
            parts.append(f" {sower.word()} ")
        else:
            parts.append("".join(chance.choice(ALPHABET) for _ in range(chance.randint(1, 40))))
    text = "".join(parts)
    if text and chance.random() < 0.3:
        at, stop = sorted(chance.choice([one.start() for one in re.finditer(r"\b|\W", text)]) for _ in range(2))
        text = text[:at] + chance.choice(source.bits) + text[min(stop, at + 3) :]
    drawn = Drawn(text, "noise", chance.choice([*TOOL_SETS, []]), chance.choice(["stop", "length"]))
    primed = chance.random()
    if primed < 0.2:
        drawn.options["initial"] = "reasoning"
    elif primed < 0.5:
        drawn.options["prompt_suffix"] = chance.choice([*source.written, *source.bits]) + chance.choice(source.bits)
    if chance.random() < 0.1:
        drawn.options["tools_enabled"] = False
    return drawn


def pieces_of(text: str, vocabulary: Sequence[str], size: int) -> list[Piece]:
    """The text with each marker of the vocabulary as one token, and the rest in pieces of a size."""
    found: list[Piece] = []
    at = 0
    for marker in re.finditer("|".join(map(re.escape, vocabulary)) or r"(?!)", text):
        starts = range(at, marker.start(), size)
        found += [(text[start : min(start + size, marker.start())], False) for start in starts]
        found.append((marker[0], True))
        at = marker.end()
    return found + [(text[start : start + size], False) for start in range(at, len(text), size)]
