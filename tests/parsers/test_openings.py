"""What a grammar asks a parser: where calls open, whether anything is held back, and a second parser to try out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers import FORMATS, Parser, get_format
from parsers.events import Content
from parsers.writing import write_calls
from tests.parsers.drawing import formats, literals_of, places
from tests.parsers.reading import TOOLS, cut, read

CALLS = [("ping", "{}"), ("update", '{"text": "a \\"b\\" <c>", "count": 3, "tags": ["x", "y"]}')]


@given(formats, st.data())
def test_a_copy_goes_on_by_itself(spec, data: st.DataObject) -> None:
    bits = st.sampled_from([write_calls(spec, CALLS), *literals_of(spec), "\n", " ", "text", '{"name": "ping"'])
    text = "".join(data.draw(st.lists(bits, max_size=6)))
    pieces = cut(text, data.draw(places))
    at = data.draw(st.integers(0, len(pieces)))
    parser = Parser(spec, TOOLS)
    for piece in pieces[:at]:
        parser.feed(piece)
    other = parser.copy()
    for piece in data.draw(st.lists(bits, max_size=3)):
        other.feed(piece)
    other.finish("length")
    fresh = parser.copy()
    wanted = [event for piece in pieces[at:] for event in parser.feed(piece)] + parser.finish()
    assert [event for piece in pieces[at:] for event in fresh.feed(piece)] + fresh.finish() == wanted


@pytest.mark.parametrize("key", sorted(FORMATS))
def test_a_call_is_seen_from_its_opening_on(key: str) -> None:
    spec = get_format(key)
    text = write_calls(spec, CALLS[1:])
    parser = Parser(spec, TOOLS)
    stages = []
    for at, char in enumerate(text):
        parser.feed(char)
        opened = parser.call_text
        if opened is not None:
            assert text[: at + 1].endswith(opened) and parser.in_arguments and not parser.settled
        stages.append("started" if parser.call_started else "open" if opened is not None else "")
    assert "started" in stages
    begin = stages.index("started")
    assert set(stages[:begin]) <= {"", "open"} and "open" in stages[:begin]


def test_a_marker_among_the_arguments_of_a_call_that_may_yet_be_text() -> None:
    """The undeclared call without a marker waits for the end; what began inside it ends with it."""
    text = '{"name": "unknown", "arguments": {"q": [1, '
    answer = read(get_format("xlam"), [text, ("[TOOL_CALLS]", True), '"name": 2]}}'])
    assert (answer.content, answer.calls) == (text + '[TOOL_CALLS]"name": 2]}}', [])


def test_what_is_settled() -> None:
    parser = Parser(get_format("hermes"), TOOLS)
    assert parser.settled
    for piece, settled in (("Hello", True), (" <tool", False), ("s>", True), ("\n", False), ("x", True)):
        parser.feed(piece)
        assert parser.settled == settled
    bare = Parser(get_format("llama3_json"), TOOLS)
    assert not bare.settled
    bare.feed(" ")
    assert not bare.settled
    bare.feed("Hello {")
    assert bare.settled


def test_the_text_behind_a_complete_call_may_open_the_next() -> None:
    spec = get_format("mistral")
    parser = Parser(spec, TOOLS)
    parser.feed('[TOOL_CALLS]ping[ARGS]{"a": ')
    assert parser.call_text is None and parser.call_started
    parser.feed("1}")
    assert parser.call_text == "" and not parser.call_started
    parser.feed("[TOOL_CALLS]pi")
    assert parser.call_text == "[TOOL_CALLS]pi"


@pytest.mark.parametrize(
    ("key", "text", "content"),
    [
        ("hunyuan_a13b", "<answer>\nSeven.\n</answer>", "Seven."),
        ("hunyuan_a13b", "Seven.\n\n</answer>", "Seven.\n"),
        ("ernie45", "<response>\n\n Seven.\n</response>\n", "\n Seven."),
        ("ernie45", "<response>Seven.</response>\n\n", "Seven.\n"),
    ],
)
def test_the_line_feeds_of_an_answers_markers_are_markup(key: str, text: str, content: str) -> None:
    for pieces in ([text], list(text)):
        parser = Parser(get_format(key), TOOLS)
        events = [event for piece in pieces for event in parser.feed(piece)] + parser.finish()
        assert "".join(event.text for event in events if isinstance(event, Content)) == content
