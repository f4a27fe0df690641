"""Strict parsing, and the verbatim text of any part of a body."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openai import json_body
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


def marks_of(text: str) -> int:
    """Commas, colons and opening brackets of a JSON text, strings left out."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.S)
    return sum(map(bare.count, ",:[{"))


@given(st.lists(st.tuples(KEYS, written()), max_size=6), st.text(',:[{"\\x', max_size=40))
def test_the_marks_that_count_stand_outside_strings(members: list[tuple[str, str]], source: str) -> None:
    named = [(json.dumps(key), value) for key, value in [*members, (source, json.dumps(source))]]
    text = "{" + ",".join(f"{key}:{value}" for key, value in named) + "}"
    marks = marks_of(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "MAX_MARKS", marks)
        parse_object(text.encode())
        patch.setattr(json_body, "MAX_MARKS", marks - 1)
        with pytest.raises(InvalidRequestError, match=f"more than {marks - 1} commas"):
            parse_object(text.encode())


@given(st.binary(max_size=60).map(lambda tail: b'{"a": [1, 2, 3]' + tail), st.integers(0, 20))
def test_too_many_marks_in_what_is_no_json_are_a_refusal_too(body: bytes, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_body, "MAX_MARKS", most)
        try:
            value, _ = parse_object(body)
        except InvalidRequestError:
            return
        assert marks_of(body.decode()) <= most
        assert value["a"]


@pytest.mark.parametrize("item", ["[],", "{},", "1,", '"",', '{"type":"function","function":{"name":"f"}},'])
def test_too_many_values_are_refused_before_any_is_made(item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{"a":[' + item * (json_body.MAX_MARKS + 1) + "1]}"

    def loads(*_args: object, **_about: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(json_body.json, "loads", loads)
    with pytest.raises(InvalidRequestError, match="more than 300,000 commas"):
        parse_object(body.encode())


@pytest.mark.parametrize("line", ["f(a, b)[0], {k: v},\n", 'say("x, y"),\\\n', "é,🙂,\\"])
def test_a_string_may_hold_any_number_of_them(line: str) -> None:
    text = line * 200_000
    value, raw = parse_object(json.dumps({"a": text, "b": [1]}).encode())
    assert value["a"] == text
    member = raw.member("a")
    assert member is not None
    assert json.loads(member.text()) == text


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
