"""Feeds every tool-call parser random and damaged text, and says what broke.

    scripts/fuzz_parsers.py [--inputs 100000] [--seed 1]

Each input is read whole, cut at random places, one character at a time, and with its markers as tokens. Wanted: no
exception, the same answer each time, nothing in the answer that was not in the text, nothing of the text lost but
markup, and no input that takes more than a millisecond per character. Ends with 1 if anything broke.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parsers import FORMATS, Format, Parser, ToolSpec
from parsers.events import ArgumentsDelta, CallEnd, CallStart, Content, Event, Finish, Reasoning
from parsers.writing import write_calls

TOOLS = [
    ToolSpec("ping", '{"type": "object", "properties": {}}'),
    ToolSpec(
        "update",
        '{"properties": {"text": {"type": "string"}, "count": {"type": "integer"}, '
        '"note": {"type": ["string", "null"]}, "tags": {"type": "array"}, "config": {"type": "object"}}}',
    ),
]
CALLS = [
    ("update", '{"text": "a {b: [c, \\"d\\"]} \\\\ } ] q <x> & \\n\\ttab", "count": 3}'),
    ("update", '{"config": {"a": {"b": [1, {"c": "d"}]}, "e": false}, "tags": ["x", "y, z"]}'),
    ("ping", "{}"),
    ("other", '{"zz": "1", "q": [1, 2]}'),
]
BITS = (
    """{ } [ ] ( ) " ' \\ ` ``` ~~~ , : = < > / | name "name": update ping text to= null 12 -0.5 1e9 \\u \\u00e9 """
    """"arguments": "parameters": {"name": words 🌆 ```json"""
)
ODDS = [*BITS.split(), "\n", "\n\n", " ", "\t", "\ud83c", "word and more "]
ALPHABET = "ab{}[]()\"'\\<>|/\n :,=`"


class Source:
    """What is drawn from for one format."""

    def __init__(self, spec: Format) -> None:
        self.spec = spec
        edges = [edge.literal for state in spec.states.values() for edge in getattr(state, "edges", ())]
        self.literals = [one for one in (*spec.markers, *spec.ends, *spec.dropped, *edges) if one]
        self.written = [write_calls(spec, [call]) for call in CALLS] + [write_calls(spec, CALLS)]
        self.bits = [*self.literals, *ODDS]
        markers = sorted((one for one in spec.markers if not re.search(r"\s", one)), key=len, reverse=True)
        self.tokens = re.compile("|".join(map(re.escape, markers)) or r"(?!)")

    def pieces(self, text: str, size: int) -> list[tuple[str, bool]]:
        """The text with each marker as one token, and the rest in pieces of a size."""
        found: list[tuple[str, bool]] = []
        at = 0
        for marker in self.tokens.finditer(text):
            found += [
                (text[start : min(start + size, marker.start())], False) for start in range(at, marker.start(), size)
            ]
            found.append((marker[0], True))
            at = marker.end()
        return found + [(text[start : start + size], False) for start in range(at, len(text), size)]


def draw(chance: random.Random, source: Source) -> str:
    """One hostile text."""
    text = ""
    for _ in range(chance.randint(1, 8)):
        kind = chance.random()
        if kind < 0.4:
            written = chance.choice(source.written)
            start = chance.randrange(len(written) + 1)
            text += written[start : chance.randrange(start, len(written) + 1)]
        elif kind < 0.8:
            text += chance.choice(source.bits)
        elif kind < 0.9:
            text += chance.choice(source.written)
        else:
            text += "".join(chance.choice(ALPHABET) for _ in range(chance.randint(1, 40)))
    if text and chance.random() < 0.3:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(source.bits) + text[at + chance.randint(0, 3) :]
    return text


def read(spec: Format, pieces: Sequence[str | tuple[str, bool]], tools: bool, initial: str, end: str) -> list[Event]:
    """The events of the pieces."""
    parser = Parser(spec, TOOLS if tools else [], initial="reasoning" if initial == "reasoning" else "content")
    events: list[Event] = []
    for piece in pieces:
        text, single = (piece, False) if isinstance(piece, str) else piece
        events += parser.feed(text, None, single)
    return events + parser.finish("length" if end == "length" else "stop")


def gathered(events: list[Event]) -> tuple[str, str, list[list[str]], str]:
    """Answer, thought, calls and how it ended. AssertionError if the events do not fit together."""
    content, reasoning, finish = "", "", ""
    calls: list[list[str]] = []
    running = False
    for event in events:
        assert not finish, "an event after the end"
        match event:
            case Content(text):
                content += text
            case Reasoning(text):
                reasoning += text
            case CallStart(index, name):
                assert not running and index == len(calls), "a call out of order"
                calls.append([name, ""])
                running = True
            case ArgumentsDelta(index, text):
                assert running and text and index == len(calls) - 1, "arguments of no call"
                calls[-1][1] += text
            case CallEnd(index, arguments):
                assert running and arguments == calls[index][1], "other arguments than were sent"
                running = False
            case Finish(reason):
                finish = reason
            case _:
                pass
    assert finish and not running, "no end"
    return content, reasoning, calls, finish


def check(chance: random.Random, source: Source, text: str) -> None:
    """AssertionError if the text is not read as promised."""
    spec = source.spec
    tools, initial = chance.random() < 0.9, chance.choice(["content", "content", "reasoning"])
    end = chance.choice(["stop", "length"])
    begin = time.process_time()
    whole = gathered(read(spec, [text], tools, initial, end))
    marks = sorted({0, len(text), *(chance.randrange(len(text) + 1) for _ in range(chance.randint(1, 10)))})
    pieces = [text[start:stop] for start, stop in pairwise(marks)]
    assert gathered(read(spec, pieces, tools, initial, end)) == whole, "cuts change the answer"
    assert gathered(read(spec, list(text), tools, initial, end)) == whole, "cuts into characters change the answer"
    tokens = gathered(read(spec, source.pieces(text, len(text) + 1), tools, initial, end))
    assert gathered(read(spec, source.pieces(text, 3), tools, initial, end)) == tokens, "cuts between tokens change it"
    assert time.process_time() - begin < 0.05 + 0.001 * len(text), "too slow"
    content, reasoning, calls, _ = whole
    for part in (content, reasoning):
        at = -1
        for char in part:
            at = text.find(char, at + 1)
            assert at >= 0, "text that was not there"
    if not calls and not spec.messages:
        lost = Counter("".join(text.split())) - Counter("".join((content + reasoning).split()))
        assert not lost.keys() - set("".join(source.literals)), "text is lost"


def main() -> int:
    """Run; returns the exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    chance = random.Random(given.seed)
    sources = [Source(spec) for spec in FORMATS.values()]
    broken = 0
    for number in range(given.inputs):
        source = sources[number % len(sources)]
        text = draw(chance, source)
        try:
            check(chance, source, text)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            broken += 1
            print(f"{source.spec.key}: {type(error).__name__}: {error}\n    {text!r}")
    print(f"{given.inputs} inputs over {len(sources)} formats, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
