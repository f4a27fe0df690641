"""Runs a parser over text cut into pieces and gathers what it says."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from parsers import Format, Parser, ToolSpec
from parsers.events import ArgumentsDelta, CallEnd, CallStart, Content, Event, Finish, Reasoning

TOOLS = [
    ToolSpec("ping", '{"type": "object", "properties": {}}'),
    ToolSpec(
        "update",
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "other": {"type": "string"},
                    "count": {"type": "integer"},
                    "ratio": {"type": "number"},
                    "flag": {"type": "boolean"},
                    "note": {"type": ["string", "null"]},
                    "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                    "config": {"$ref": "#/$defs/config"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "edits": {"type": "array", "items": {"type": "object"}},
                },
                "$defs": {
                    "config": {
                        "type": "object",
                        "properties": {
                            "a": {"properties": {"b": {"items": {"anyOf": [{"type": "integer"}, {"type": "object"}]}}}},
                            "e": {"type": "boolean"},
                        },
                    }
                },
            }
        ),
    ),
]


@dataclass
class Answer:
    """What came out, with the deltas joined."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    finish: str = ""


def gather(events: Iterable[Event]) -> Answer:
    """Join the events; checks that indices are dense and that each call's parts stand in order."""
    answer = Answer()
    open_call: int | None = None
    for event in events:
        assert not answer.finish, "an event after the end"
        match event:
            case Content(text):
                assert text
                answer.content += text
            case Reasoning(text):
                assert text
                answer.reasoning += text
            case CallStart(index, name):
                assert open_call is None and index == len(answer.calls)
                answer.calls.append((name, ""))
                open_call = index
            case ArgumentsDelta(index, text):
                assert index == open_call and text
                answer.calls[-1] = (answer.calls[-1][0], answer.calls[-1][1] + text)
            case CallEnd(index, arguments, warning):
                assert index == open_call and arguments == answer.calls[-1][1]
                open_call = None
                answer.warnings.extend([warning] if warning else [])
            case Finish(reason):
                answer.finish = reason
            case other:
                raise AssertionError(other)
    assert open_call is None and answer.finish
    return answer


def events_of(
    spec: Format,
    pieces: Sequence[str | tuple[str, bool]],
    tools: Sequence[ToolSpec] = TOOLS,
    end: Any = "stop",
    **options: Any,
) -> list[Event]:
    """Every event of the pieces; a pair says whether the piece is one vocabulary token."""
    parser = Parser(spec, tools, **options)
    events: list[Event] = []
    for piece in pieces:
        text, single = piece if isinstance(piece, tuple) else (piece, False)
        events += parser.feed(text, None, single)
    return events + parser.finish(end)


def read(spec: Format, pieces: str | Sequence[str | tuple[str, bool]], **options: Any) -> Answer:
    """What the parser makes of the pieces."""
    return gather(events_of(spec, [pieces] if isinstance(pieces, str) else pieces, **options))


def cut(text: str, places: Iterable[int]) -> list[str]:
    """The text cut at these places, taken modulo its length."""
    marks = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(marks)]
