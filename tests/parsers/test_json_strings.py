"""An answer in JSON may speak of calls: a marker in one of its strings opens none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers import FORMATS, get_format
from parsers.json_strings import JsonStrings
from parsers.writing import write_calls
from tests.parsers.drawing import places
from tests.parsers.reading import cut, read

CALLS = [("ping", "{}"), ("update", '{"text": "a", "count": 3}')]
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


@given(
    st.dictionaries(st.text(), values, min_size=1),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.sampled_from(["", "See: ", "a [b] {c} ", "Said:\n```json\n"]),
    places,
)
def test_a_place_is_inside_where_json_says_so(
    value: dict[str, Any], indent: int | None, escaped: bool, before: str, at: list[int]
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    strings = JsonStrings()
    strings.add(before)
    inside, skip, seen = False, False, 0
    for piece in cut(text, at):
        strings.add(piece)
        for char in text[seen : seen + len(piece)]:
            if skip or char == "\\":
                skip = not skip and inside
            elif char == '"':
                inside = not inside
        seen += len(piece)
        assert strings.inside() == inside
    strings.add(' And "more ')
    assert not strings.inside()


@pytest.mark.parametrize("text", ['He said "x', "{x", "f(a[", '{"a": x "', '["a\n', '{"a": 1} "x', "[1, 2"])
def test_what_is_no_json_has_no_strings(text: str) -> None:
    strings = JsonStrings()
    for char in text:
        strings.add(char)
    assert not strings.inside()


@pytest.mark.parametrize("key", sorted(FORMATS))
def test_an_answer_in_json_speaks_of_calls(key: str) -> None:
    spec = get_format(key)
    written = [*(write_calls(spec, [call]) for call in CALLS), write_calls(spec, CALLS)]
    for text in written:
        document = json.dumps({"how": f"Write {text} to do it.", "then": [text]}, ensure_ascii=False)
        for pieces in ([document], list(document)):
            answer = read(spec, pieces)
            assert (answer.content, answer.calls, answer.reasoning) == (document, [], "")


@pytest.mark.parametrize("key", ["hermes", "qwen3_coder", "mistral"])
def test_a_call_behind_json_is_one(key: str) -> None:
    spec = get_format(key)
    answer = read(spec, ['{"say": "it"}\n\nNow: ' + write_calls(spec, CALLS[:1])])
    assert [name for name, _ in answer.calls] == ["ping"]


def test_a_call_that_was_none_leaves_no_string_open() -> None:
    """The broken one's quotation mark does not keep the good one from being called."""
    good = '<tool_call>{"name": "ping", "arguments": {}}</tool_call>'
    answer = read(get_format("hermes"), ['<tool_call>{"name": "ping</tool_call>' + good])
    assert [name for name, _ in answer.calls] == ["ping"] and answer.content == '<tool_call>{"name": "ping</tool_call>'
