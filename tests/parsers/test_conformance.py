"""What every format promises. A format that is added to `parsers/formats` is tested here without further ado."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers import FORMATS, Format, Parser, get_format
from parsers.events import ArgumentsDelta, CallStart, Content
from parsers.writing import write_calls
from tests.parsers.reading import TOOLS, cut, events_of, gather, read

# Keys whose models write no calls of their own that a reader could be tested with.
ANSWER_ONLY: frozenset[str] = frozenset()

CALLS = [
    ("update", '{"text": "a {b: [c, \\"d\\"]} \\\\ } ] \'q\' <x> & \\n\\ttab", "count": 3}'),
    ("update", '{"text": "São Paulo – 東京 🌆"}'),
    ("update", '{"count": 9007199254740993, "ratio": -0.25, "flag": true}'),
    ("update", '{"config": {"a": {"b": [1, {"c": "d"}]}, "e": false}, "tags": ["x", "y, z"]}'),
    ("update", '{"note": null, "either": 12}'),
    ("update", '{"text": "null", "other": "12"}'),
    ("ping", "{}"),
]


@pytest.fixture(params=sorted(set(FORMATS) - ANSWER_ONLY))
def spec(request: pytest.FixtureRequest) -> Format:
    return get_format(request.param)


formats = st.sampled_from(sorted(set(FORMATS) - ANSWER_ONLY)).map(get_format)
places = st.lists(st.integers(0, 400), max_size=12)
fragments = st.sampled_from(
    ["<", "{", "}", "[", "]", '"', "\\", "\n", " ", "name", "update", "ping", ":", ",", "```", "<think>", "</think>"]
)


def test_the_key_is_the_name_of_its_file(spec: Format) -> None:
    assert FORMATS[spec.key] is spec


@pytest.mark.parametrize(("name", "arguments"), CALLS)
def test_one_call(spec: Format, name: str, arguments: str) -> None:
    answer = read(spec, write_calls(spec, [(name, arguments)]))
    assert [(found, json.loads(text)) for found, text in answer.calls] == [(name, json.loads(arguments))]
    assert (answer.content, answer.reasoning, answer.finish) == ("", "", "tool_calls")
    assert answer.warnings == []


def test_two_calls(spec: Format) -> None:
    text = write_calls(spec, [CALLS[0], CALLS[3]])
    calls = read(spec, text).calls
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        (name, json.loads(arguments)) for name, arguments in (CALLS[0], CALLS[3])
    ]


@pytest.mark.parametrize("call", CALLS)
def test_one_character_at_a_time_gives_the_same(spec: Format, call: tuple[str, str]) -> None:
    text = write_calls(spec, [call, CALLS[1]])
    assert read(spec, list(text)) == read(spec, text)


def test_without_tools_markup_is_text(spec: Format) -> None:
    text = write_calls(spec, [CALLS[0]])
    for options in ({"tools": []}, {"tools_enabled": False}):
        answer = read(spec, text, **options)
        assert answer.calls == []
        assert "São" in text or "update" in answer.content


def test_prose_comes_out_as_it_is(spec: Format) -> None:
    text = 'Well: if a < b and c > d, use <tool or [TOOL, <function, {"x": 1}.\n\n  - done\n'
    answer = read(spec, list(text))
    assert (answer.content, answer.calls, answer.finish) == (text, [], "stop")


def test_a_call_cut_by_the_token_limit_keeps_what_came_before(spec: Format) -> None:
    text = write_calls(spec, [("update", '{"text": "first line, second line"}')])
    whole = read(spec, text).calls[0][1]
    for end in range(1, len(text)):
        answer = read(spec, text[:end], end="length")
        assert answer.finish == "length"
        for name, arguments in answer.calls:
            assert name == "update"
            assert whole.startswith(arguments) or "second line" in arguments


def test_string_arguments_come_as_they_are_generated(spec: Format) -> None:
    words = [f"word{number} " for number in range(60)]
    text = write_calls(spec, [("update", json.dumps({"text": "@"}))])
    before, after = text.split("@")
    parser = Parser(spec, TOOLS)
    parser.feed(before)
    deltas = [sum(isinstance(event, ArgumentsDelta) for event in parser.feed(word)) for word in words]
    assert sum(deltas) >= 0.9 * len(words)
    assert parser.in_arguments
    parser.feed(after)
    parser.finish()


def test_names_and_arguments_come_before_the_call_is_over(spec: Format) -> None:
    text = write_calls(spec, [("update", json.dumps({"text": "x" * 50}))])
    head = text[: text.index("x" * 50) + 25]
    parser = Parser(spec, TOOLS)
    started = [event for character in head for event in parser.feed(character)]
    assert any(isinstance(event, CallStart) and event.name == "update" for event in started)


def test_text_before_a_call_is_kept(spec: Format) -> None:
    if spec.bare and not spec.openers:
        pytest.skip("without a marker only a whole answer is a call")
    answer = read(spec, "I will look. " + write_calls(spec, [CALLS[1]]))
    if answer.calls or not spec.bare:
        assert answer.content == "I will look. "
        assert len(answer.calls) == 1


def test_the_thought_is_told_from_the_answer(spec: Format) -> None:
    for thought in spec.thoughts:
        text = f"{thought.open}Hm, {{x}}.{thought.close}Done."
        assert (read(spec, text).reasoning, read(spec, text).content) == ("Hm, {x}.", "Done.")
        rest = text.removeprefix(thought.open)
        primed = read(spec, list(rest), prompt_suffix="x" + thought.open)
        assert (primed.reasoning, primed.content) == ("Hm, {x}.", "Done.")


def test_a_call_drafted_in_a_thought_is_thought_unless_it_is_complete(spec: Format) -> None:
    for thought in spec.thoughts:
        for opener in spec.openers:
            text = f"{thought.open}I could write {opener} and then stop.{thought.close}No."
            answer = read(spec, text)
            assert (answer.calls, answer.content) == ([], "No.")
            assert opener in answer.reasoning


@settings(max_examples=150, deadline=None)
@given(spec=formats, calls=st.lists(st.sampled_from(CALLS), min_size=1, max_size=3), places=places)
def test_any_cut_gives_the_same(spec: Format, calls: list[tuple[str, str]], places: list[int]) -> None:
    text = write_calls(spec, calls)
    assert read(spec, cut(text, places)) == read(spec, text)


@settings(max_examples=300, deadline=None)
@given(spec=formats, data=st.data(), places=places, end=st.sampled_from(["stop", "length"]))
def test_damaged_text_never_raises_and_cuts_alike(
    spec: Format, data: st.DataObject, places: list[int], end: str
) -> None:
    written = write_calls(spec, [CALLS[data.draw(st.integers(0, len(CALLS) - 1))]])
    literals = [
        *spec.openers,
        *spec.ends,
        *(edge.literal for s in spec.states.values() for edge in getattr(s, "edges", ())),
    ]
    bits = fragments | st.sampled_from(literals or ["x"])
    text = ""
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(written)))
        text += written[start : data.draw(st.integers(start, len(written)))] + data.draw(bits)
    assert read(spec, cut(text, places), end=end) == read(spec, text, end=end)


@settings(max_examples=200, deadline=None)
@given(spec=formats, text=st.text(max_size=60), places=places)
def test_text_that_is_no_markup_comes_out_once(spec: Format, text: str, places: list[int]) -> None:
    literals = [*spec.openers, *spec.ends, *spec.dropped]
    if any(literal in text for literal in literals):
        return
    answer = read(spec, cut(text, places))
    if not answer.calls:
        assert answer.content + answer.reasoning == text


@settings(max_examples=100, deadline=None)
@given(spec=formats, at=st.integers(0, 400), calls=st.lists(st.sampled_from(CALLS), min_size=1, max_size=2))
def test_replaying_at_any_cut_gives_the_same_events(spec: Format, at: int, calls: list[tuple[str, str]]) -> None:
    pieces = list("Yes. " + write_calls(spec, calls))
    first, second = Parser(spec, TOOLS), Parser(spec, TOOLS)
    at %= len(pieces)
    for piece in pieces[:at]:
        assert first.feed(piece) == second.feed(piece)
    assert [first.feed(piece) for piece in pieces[at:]] == [second.feed(piece) for piece in pieces[at:]]
    assert first.finish() == second.finish()


def test_stop_tokens_never_become_content(spec: Format) -> None:
    for stop in spec.ends:
        pieces = [("Hello.", False), (stop, True)]
        assert gather(events_of(spec, pieces)).content == "Hello."
        call = [(write_calls(spec, [CALLS[1]]), False), (stop, True)]
        assert gather(events_of(spec, call)).content == ""
        events = events_of(spec, ["Hello.", stop])
        assert "".join(event.text for event in events if isinstance(event, Content)) == "Hello."
