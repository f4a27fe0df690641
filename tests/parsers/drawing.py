"""Draws tools, calls and hostile text for a format, as hypothesis strategies."""

import json
import re
from typing import Any

from hypothesis import strategies as st

from parsers import FORMATS, Format, ToolSpec, get_format
from parsers.format import RawValue
from tests.parsers.reading import cut

Calls = list[tuple[str, dict[str, Any]]]

formats = st.sampled_from(sorted(FORMATS)).map(get_format)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.\-]{0,20}", fullmatch=True)
keys = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
places = st.lists(st.integers(0, 2000), max_size=12)

FRAGMENTS = (
    """" ' \\ { } [ ] ( ) < > & = , : ; \\n \\u0041 \\ud83c 🌆 ``` null None true 12 -0.5 </b> functions. to= """
    """print('</parameter>') <tool_call> </tool_call> [TOOL_CALLS] {"name": """
)


def literals_of(spec: Format) -> list[str]:
    """Everything that the format takes for markup somewhere."""
    edges = [edge.literal for state in spec.states.values() for edge in getattr(state, "edges", ())]
    return sorted({one for one in (*spec.markers, *spec.ends, *spec.dropped, *edges) if one})


def strings(spec: Format) -> st.SearchStrategy[str]:
    """Strings full of quotes, braces, markers, emoji, line feeds."""
    bits = st.sampled_from([*FRAGMENTS.split(), "\n", "\t", " ", *literals_of(spec)])
    # Half a surrogate pair, too, which JSON can say and UTF-8 cannot.
    text = st.text(st.characters(exclude_characters="\r") | st.characters(categories=["Cs"]), max_size=8)
    return st.lists(bits | text, max_size=6).map("".join)


def values(spec: Format) -> dict[str, tuple[dict[str, Any], st.SearchStrategy[Any]]]:
    """A schema for each kind of value, and such values."""
    string = strings(spec)
    filled = string.filter(str.strip)
    integer, number, text = {"type": "integer"}, {"type": "number"}, {"type": "string"}
    reference = {"anyOf": [{"$ref": "#/$defs/count"}, {"type": "null"}]}
    return {
        "string": (text, string),
        "integer": (integer, st.integers(-(10**30), 10**30)),
        "number": (number, st.floats(allow_nan=False, allow_infinity=False)),
        "boolean": ({"type": "boolean"}, st.booleans()),
        "nullable": ({"type": ["string", "null"]}, filled.filter(lambda one: one.lower() not in ("null", "none"))),
        "reference": (reference, st.integers(-5, 5)),
        "enum": ({"enum": ["red", "green"]}, st.sampled_from(["red", "green"])),
        "object": (
            {"type": "object", "additionalProperties": text},
            st.dictionaries(keys, filled, min_size=1, max_size=3),
        ),
        "array": ({"type": "array", "items": text}, st.lists(filled, min_size=1, max_size=3)),
        "edits": (
            {"type": "array", "items": {"type": "object", "properties": {"old": text, "line": integer}}},
            st.lists(st.fixed_dictionaries({"old": filled, "line": st.integers(0, 9)}), min_size=1, max_size=3),
        ),
    }


@st.composite
def tools_and_calls(draw: st.DrawFn, spec: Format) -> tuple[list[ToolSpec], Calls]:
    """Tools with random names and schemas, and calls of them that the format's notation can hold."""
    kinds = values(spec)
    tools: list[ToolSpec] = []
    calls: Calls = []
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        parameters = draw(st.dictionaries(keys, st.sampled_from(sorted(kinds)), max_size=4))
        schema = {
            "properties": {key: kinds[kind][0] for key, kind in parameters.items()},
            "$defs": {"count": {"type": "integer"}},
        }
        tools.append(ToolSpec(name, json.dumps(schema)))
        arguments = {
            key: draw(kinds[kind][1].filter(lambda value: carries(spec, value))) for key, kind in parameters.items()
        }
        calls.append((name, arguments))
    return tools, calls


def carries(spec: Format, value: Any) -> bool:
    """Whether the notation can hold the value at all: raw text has no way to quote its own markers."""
    if isinstance(value, dict):
        return all(carries(spec, one) for one in value.values())
    if isinstance(value, list):
        return all(carries(spec, one) for one in value)
    if not isinstance(value, str):
        return True
    wire = spec.wire
    if wire.style in ("braces", "elements"):
        return wire.quote not in value and not wire.quote.startswith(value[-1:] or "\0")
    return wire.style != "parameters" or not any(literal in value for literal in value_ends(spec))


def value_ends(spec: Format) -> set[str]:
    """What may end the raw text of a parameter."""
    return {edge.literal for state in spec.states.values() if isinstance(state, RawValue) for edge in state.edges}


def single_tokens(spec: Format) -> list[str]:
    """Those of the format's markers that can be tokens of a vocabulary, longest first."""
    return sorted((marker for marker in spec.markers if not re.search(r"\s", marker)), key=len, reverse=True)


def tokens_of(spec: Format, text: str, places: list[int]) -> list[tuple[str, bool]]:
    """The text as a model whose vocabulary has all of the format's markers would write it."""
    pieces: list[tuple[str, bool]] = [(text, False)]
    for marker in single_tokens(spec):
        split: list[tuple[str, bool]] = []
        for piece, single in pieces:
            if single:
                split.append((piece, True))
                continue
            for number, part in enumerate(piece.split(marker)):
                split += [(marker, True)] if number else []
                split += [(part, False)] if part else []
        pieces = split
    return [
        found
        for piece, single in pieces
        for found in ([(piece, True)] if single else [(part, False) for part in cut(piece, places)])
    ]


@st.composite
def damaged(draw: st.DrawFn, spec: Format, written: str) -> str:
    """Parts of a written call, with markers and odds and ends between them."""
    bits = st.sampled_from([*FRAGMENTS.split(), "name", "update", "ping", "\n", " ", *literals_of(spec)])
    text = ""
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(written)))
        text += written[start : draw(st.integers(start, len(written)))] + draw(bits)
    return text
