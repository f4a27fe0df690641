"""Strict parsing, and the verbatim text of any part of a body."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openai.json_body import MAX_DEPTH, RawJson, parse_object
from tandem.errors import InvalidRequestError

BLANKS = st.text(" \t\r\n", max_size=3)
KEYS = st.text(max_size=6)


@st.composite
def written(draw: st.DrawFn, depth: int = 3) -> str:
    """A JSON text with blanks and number spellings of its own."""
    blank = draw(BLANKS)
    kind = draw(st.sampled_from(["atom", "array", "object"] if depth else ["atom"]))
    if kind == "array":
        items = draw(st.lists(written(depth - 1), max_size=3))
        return f"[{blank}{(blank + ',').join(items)}{blank}]"
    if kind == "object":
        members = draw(st.lists(st.tuples(KEYS, written(depth - 1)), max_size=3))
        text = f"{blank},".join(f"{blank}{json.dumps(key)}{blank}:{blank}{value}" for key, value in members)
        return f"{{{text}{blank}}}"
    return draw(st.sampled_from(["1", "1.0", "1e5", "-0", "true", "null", '"a\\u00e9]}"', '"\\"\\\\"', '""']))


def check(raw: RawJson, value: Any) -> None:
    """The slices parse to what the whole parse says, all the way down."""
    assert json.loads(raw.text()) == value
    if isinstance(value, dict):
        assert raw.member("no such key") is None
        for key, inner in value.items():
            member = raw.member(key)
            assert member is not None
            check(member, inner)
    if isinstance(value, list):
        for element, inner in zip(raw.elements(), value, strict=True):
            check(element, inner)


@given(BLANKS, st.lists(st.tuples(KEYS, written()), max_size=4), BLANKS)
def test_every_part_is_found_where_it_stands(before: str, members: list[tuple[str, str]], after: str) -> None:
    text = before + "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in members) + "}" + after
    value, raw = parse_object(text.encode())
    check(raw, value)
    for key, written_value in dict(members).items():
        member = raw.member(key)
        assert member is not None
        assert member.text() == written_value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}{}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\\ud800"}',
        b'{"a": ["x", {"\\udfff": 1}]}',
        b'{"a": "line\nbreak"}',
        b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"a": ' + b"[" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    ],
)
def test_what_is_not_a_clean_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_object(body)
    assert caught.value.message.startswith("We could not parse the JSON body")


def test_what_is_odd_but_right_is_taken() -> None:
    deep = MAX_DEPTH - 1
    body = (
        b' {"a": "\\ud83d\\ude42", "a\\u0000": 1e308, "n": '
        + b"7" * 4000
        + b', "d": '
        + b"[" * deep
        + b"]" * deep
        + b"} "
    )
    value, _ = parse_object(body)
    assert value["a"] == "🙂"
