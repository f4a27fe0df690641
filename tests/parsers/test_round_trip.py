"""Calls with random names, schemas and values, written as the model would write them, are read back as they were."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parsers import FORMATS, Format, ToolSpec, get_format
from parsers.writing import write_calls
from tests.parsers.reading import cut, read

formats = st.sampled_from(sorted(FORMATS)).map(get_format)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.\-]{0,20}", fullmatch=True)
keys = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
FRAGMENTS = (
    """" ' \\ { } [ ] < > & \\n \\u0041 🌆 ``` null </b> print('</parameter>') <tool_call> </tool_call> [TOOL_CALLS]"""
)
bits = st.sampled_from([*FRAGMENTS.split(), "\n", "\t", " ", '{"name": "x"}', "<think>", "</think>"])
strings = st.lists(bits | st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8), max_size=6).map(
    "".join
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": strings,
    "integer": st.integers(-(10**30), 10**30),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "object": st.dictionaries(keys, strings.filter(str.strip), min_size=1, max_size=3),
    "array": st.lists(strings.filter(str.strip), min_size=1, max_size=3),
}
SCHEMAS: dict[str, Any] = {kind: {"type": kind} for kind in VALUES}
SCHEMAS["array"] = {"type": "array", "items": {"type": "string"}}
SCHEMAS["object"] = {"type": "object", "additionalProperties": {"type": "string"}}


@st.composite
def tools_and_calls(draw: st.DrawFn) -> tuple[list[ToolSpec], list[tuple[str, dict[str, Any]]]]:
    tools, calls = [], []
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        kinds = draw(st.dictionaries(keys, st.sampled_from(sorted(VALUES)), max_size=4))
        tools.append(ToolSpec(name, json.dumps({"properties": {key: SCHEMAS[kind] for key, kind in kinds.items()}})))
        calls.append((name, {key: draw(VALUES[kind]) for key, kind in kinds.items()}))
    return tools, calls


def carries(spec: Format, value: Any) -> bool:
    """Whether the notation can hold the value at all: raw text has no way to quote its own markers."""
    if isinstance(value, dict):
        return all(carries(spec, one) for one in value.values())
    if isinstance(value, list):
        return all(carries(spec, one) for one in value)
    if not isinstance(value, str):
        return True
    if spec.wire.style in ("braces", "elements"):
        return not spec.wire.quote or (
            spec.wire.quote not in value and not spec.wire.quote.startswith(value[-1:] or "\0")
        )
    if spec.wire.style == "parameters":
        literals = [edge.literal for state in spec.states.values() for edge in getattr(state, "edges", ())]
        return not any(literal and literal.strip() in value for literal in literals)
    return True


def check(spec: Format, tools: list[ToolSpec], calls: list[tuple[str, dict[str, Any]]], places: list[int]) -> None:
    if not all(carries(spec, arguments) for _, arguments in calls):
        return
    text = write_calls(spec, [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls])
    whole = read(spec, text, tools=tools)
    assert [(name, json.loads(arguments)) for name, arguments in whole.calls] == calls
    assert (whole.content, whole.reasoning, whole.warnings) == ("", "", [])
    assert read(spec, cut(text, places), tools=tools) == whole


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=formats, drawn=tools_and_calls(), places=st.lists(st.integers(0, 1000), max_size=10))
def test_round_trip(
    spec: Format, drawn: tuple[list[ToolSpec], list[tuple[str, dict[str, Any]]]], places: list[int]
) -> None:
    check(spec, *drawn, places)


@pytest.mark.slow
@settings(max_examples=4_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=formats, drawn=tools_and_calls(), places=st.lists(st.integers(0, 1000), max_size=10))
def test_round_trip_at_length(
    spec: Format, drawn: tuple[list[ToolSpec], list[tuple[str, dict[str, Any]]]], places: list[int]
) -> None:
    check(spec, *drawn, places)


@pytest.mark.parametrize("key", sorted(FORMATS))
def test_a_long_string(key: str) -> None:
    value = "".join(f"line {number}: a < b && c['d'] == \"e\"\n" for number in range(300))
    tools = [ToolSpec("write", '{"properties": {"text": {"type": "string"}}}')]
    text = write_calls(get_format(key), [("write", json.dumps({"text": value}))])
    answer = read(get_format(key), list(text), tools=tools)
    assert [(name, json.loads(arguments)) for name, arguments in answer.calls] == [("write", {"text": value})]
