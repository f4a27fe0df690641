"""What every format promises. A format that is added to `parsers/formats` is tested here without further ado."""

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parsers import FORMATS, Format, Parser, ToolSpec, get_format
from parsers.events import ArgumentsDelta, CallEnd, CallStart, Content, Event, Reasoning
from parsers.writing import write_calls
from tests.parsers.drawing import (
    Calls,
    damaged,
    formats,
    literals_of,
    places,
    single_tokens,
    tokens_of,
    tools_and_calls,
)
from tests.parsers.reading import TOOLS, cut, events_of, gather, read

CALLS = [
    ("update", '{"text": "a {b: [c, \\"d\\"]} \\\\ } ] \'q\' <x> & \\n\\ttab", "count": 3}'),
    ("update", '{"text": "São Paulo – 東京 🌆"}'),
    ("update", '{"count": 9007199254740993, "ratio": -0.25, "flag": true}'),
    ("update", '{"config": {"a": {"b": [1, {"c": "d"}]}, "e": false}, "tags": ["x", "y, z"]}'),
    ("update", '{"note": null, "either": 12}'),
    ("update", '{"text": "null", "other": "12"}'),
    ("ping", "{}"),
]
EDITS = [
    {"path": f"src/{name}.py", "old": "def load(path):\n    return open(path)", "new": "word by word " * 9}
    for name in ("a", "b", "c")
]


def is_markerless(spec: Format) -> bool:
    """Whether calls are told by standing at the head of an answer, since no marker opens them."""
    return bool(spec.bare) and not any(opener in write_calls(spec, CALLS[6:]) for opener in spec.openers)


@pytest.fixture(params=sorted(FORMATS))
def spec(request: pytest.FixtureRequest) -> Format:
    return get_format(request.param)


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


def without(literals: Iterable[str], text: str) -> str:
    for literal in sorted(literals, key=len, reverse=True):
        text = text.replace(literal, "")
    return text


@pytest.mark.parametrize("options", [{"tools": []}, {"tools_enabled": False}])
def test_without_tools_markup_is_text(spec: Format, options: dict[str, Any]) -> None:
    text = f"zq {write_calls(spec, [CALLS[0], CALLS[6]])} xy"
    # What frames messages and answers, whether there are calls or not.
    frame = [one for one in spec.dropped if one != "</dots_function_call>"]
    for pieces in ([text], list(text), tokens_of(spec, text, [3])):
        answer = read(spec, pieces, **options)
        assert (answer.calls, answer.reasoning, answer.finish) == ([], "", "stop")
        assert without(frame, answer.content) == without(frame, text)
        assert frame or answer.content == text
    for stop in spec.ends:
        answer = read(spec, [("Write ", False), (stop, False), (" there.", False), (stop, True)], **options)
        assert (answer.content, answer.calls) == (f"Write {stop} there.", [])


def test_prose_comes_out_as_it_is(spec: Format) -> None:
    text = 'Well: if a < b and c > d, use <tool or [TOOL, <function, {"x": 1}.\n\n  - done\n'
    answer = read(spec, list(text))
    assert (answer.content, answer.calls, answer.finish) == (text, [], "stop")


def test_a_call_cut_by_the_token_limit_keeps_what_came_before(spec: Format) -> None:
    before = "" if is_markerless(spec) else "What came before"
    text = before + write_calls(spec, [("update", '{"text": "first line, second line"}')])
    whole = read(spec, text).calls[0][1]
    parser = Parser(spec, TOOLS)
    named = next(at for at, char in enumerate(text, 1) if any(isinstance(one, CallStart) for one in parser.feed(char)))
    for end in range(1, len(text)):
        answer = read(spec, text[:end], end="length")
        assert answer.finish == "length"
        if end < named and not answer.calls:
            assert answer.content == text[:end]
            continue
        assert [name for name, _ in answer.calls] == ["update"]
        assert answer.content.rstrip("\n") == before
        arguments = answer.calls[0][1]
        assert whole.startswith(arguments) or "second line" in arguments
        said = text[:end].count("first line") + text[:end].count("second line")
        assert arguments.count("first line") + arguments.count("second line") == said


def test_a_thought_that_the_token_limit_cuts_is_a_thought(spec: Format) -> None:
    for thought in spec.thoughts:
        for opened in (thought.open, ""):
            text = f"{opened}Let me see: {{x}} < 3,\nand"
            options = {} if opened else {"prompt_suffix": thought.open}
            for end in range(len(opened) + 1, len(text) + 1):
                for pieces in (text[:end], list(text[:end])):
                    answer = read(spec, pieces, end="length", **options)
                    assert (answer.content, answer.calls, answer.finish) == ("", [], "length")
                    assert answer.reasoning == text[len(opened) : end]
            # Half of the marker that closes it was not one.
            answer = read(spec, text + thought.close[:-1], end="length", **options)
            assert (answer.content, answer.reasoning) == ("", text[len(opened) :] + thought.close[:-1])


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
    text = "I will look. " + write_calls(spec, [CALLS[1]])
    for pieces in ([text], list(text)):
        answer = read(spec, pieces)
        if is_markerless(spec):
            # Only a whole answer is a call.
            assert (answer.content, answer.calls) == (text, [])
        else:
            assert answer.content == "I will look. "
            assert [json.loads(arguments) for _, arguments in answer.calls] == [json.loads(CALLS[1][1])]


def test_the_thought_is_told_from_the_answer(spec: Format) -> None:
    for thought in spec.thoughts:
        text = f"{thought.open}Hm, {{x}}.{thought.close}Done."
        assert (read(spec, text).reasoning, read(spec, text).content) == ("Hm, {x}.", "Done.")
        rest = text.removeprefix(thought.open)
        primed = read(spec, list(rest), prompt_suffix="x" + thought.open)
        assert (primed.reasoning, primed.content) == ("Hm, {x}.", "Done.")


@pytest.mark.parametrize("key", [key for key in sorted(FORMATS) if get_format(key).thoughts])
def test_a_call_drafted_in_a_thought_is_thought_unless_it_is_complete(key: str) -> None:
    spec = get_format(key)
    undeclared = write_calls(spec, [("other", "{}")])
    for thought in spec.thoughts:
        for draft in (*spec.openers, undeclared):
            if thought.close in draft or (spec.messages and draft != "<atem:function_calls>"):
                # It ends the thought, or begins another message.
                continue
            written = f"I could write {draft} and then stop."
            for pieces in (
                [f"{thought.open}{written}{thought.close}No."],
                list(f"{thought.open}{written}{thought.close}No."),
            ):
                answer = read(spec, pieces)
                assert (answer.calls, answer.content, answer.reasoning) == ([], "No.", written)
        declared = write_calls(spec, [CALLS[1]])
        answer = read(spec, f"{thought.open}I will. {declared}")
        if not is_markerless(spec):
            assert (answer.reasoning, len(answer.calls), answer.content) == ("I will. ", 1, "")


def check(spec: Format, tools: list[ToolSpec], calls: Calls, places: list[int], escaped: bool) -> None:
    text = write_calls(spec, [(name, json.dumps(arguments, ensure_ascii=escaped)) for name, arguments in calls])
    whole = read(spec, text, tools=tools)
    assert [(name, json.loads(arguments)) for name, arguments in whole.calls] == calls
    assert (whole.content, whole.reasoning, whole.warnings) == ("", "", [])
    assert read(spec, cut(text, places), tools=tools) == whole
    strings = " ".join(str(arguments) for _, arguments in calls)
    if not any(marker in strings for marker in spec.markers):
        assert read(spec, tokens_of(spec, text, places), tools=tools, single_tokens=single_tokens(spec)) == whole


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), spec=formats, places=places, escaped=st.booleans())
def test_calls_are_read_as_they_were_written(
    data: st.DataObject, spec: Format, places: list[int], escaped: bool
) -> None:
    tools, calls = data.draw(tools_and_calls(spec))
    check(spec, tools, calls, places, escaped)


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(FORMATS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), places=places, escaped=st.booleans())
def test_calls_are_read_as_they_were_written_at_length(
    key: str, data: st.DataObject, places: list[int], escaped: bool
) -> None:
    spec = get_format(key)
    tools, calls = data.draw(tools_and_calls(spec))
    check(spec, tools, calls, places, escaped)


def test_long_strings_and_deep_values(spec: Format) -> None:
    line = "line {}: a < b && c['d'] == \"e\" \\\\ [x](y) {{z}}\n"
    deep: Any = "bottom"
    for level in range(200):
        deep = [deep] if level % 2 else {"k": deep}
    calls = [("write", {"text": "".join(map(line.format, range(300)))}), ("write", {"deep": deep})]
    tools = [ToolSpec("write", '{"properties": {"text": {"type": "string"}, "deep": {"type": "array"}}}')]
    if spec.wire.style == "elements":
        calls.pop()
    text = write_calls(spec, [(name, json.dumps(arguments)) for name, arguments in calls])
    for pieces in ([text], list(text)):
        answer = read(spec, pieces, tools=tools)
        assert [(name, json.loads(arguments)) for name, arguments in answer.calls] == calls


def test_nesting_deeper_than_any_stack_and_numbers_longer_than_any_integer(spec: Format) -> None:
    depth = 100_000
    mark = spec.wire.quote
    if spec.wire.style == "elements":
        text = write_calls(spec, [("update", '{"text": "@@"}')])
        text = text.replace("@@", f"{mark}<a>" * depth + "x" + f"{mark}</a>" * depth)
        opening = "{"
    else:
        quoted = f"{mark}@@{mark}" if spec.wire.style == "braces" else '"@@"'
        text = write_calls(spec, [("update", '{"tags": ["@@"]}')])
        text = text.replace(f"[{quoted}]", "[" * depth + "]" * depth)
        opening = "["
    answer = read(spec, text)
    assert [(name, arguments.count(opening) >= depth) for name, arguments in answer.calls] == [("update", True)]
    assert answer.content == ""
    digits = "7" * 5_000
    text = write_calls(spec, [("update", '{"count": 77}')]).replace("77", digits)
    assert read(spec, list(text)).calls == [("update", f'{{"count": {digits}}}')]


def test_a_string_may_speak_of_the_format(spec: Format) -> None:
    """Markers in a string do not end it, as long as what follows could not follow the end of a string."""
    for literal in literals_of(spec):
        if spec.wire.style in ("braces", "elements") and spec.wire.quote in literal:
            continue
        value = f"x = f({literal!r}) # {literal} and so on"
        text = write_calls(spec, [("update", json.dumps({"text": value})), CALLS[2]])
        calls = read(spec, list(text)).calls
        assert [json.loads(arguments) for _, arguments in calls] == [{"text": value}, json.loads(CALLS[2][1])], literal


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(),
    spec=formats,
    call=st.sampled_from(CALLS),
    places=places,
    end=st.sampled_from(["stop", "length"]),
    initial=st.sampled_from(["content", "reasoning"]),
)
def test_damaged_text_never_raises_and_cuts_alike(
    data: st.DataObject, spec: Format, call: tuple[str, str], places: list[int], end: str, initial: str
) -> None:
    text = data.draw(damaged(spec, write_calls(spec, [call])))
    whole = read(spec, text, end=end, initial=initial)
    assert read(spec, cut(text, places), end=end, initial=initial) == whole
    assert read(spec, list(text), end=end, initial=initial) == whole


@settings(max_examples=200, deadline=None)
@given(spec=formats, text=st.text(max_size=60), places=places)
def test_text_that_is_no_markup_comes_out_once(spec: Format, text: str, places: list[int]) -> None:
    if any(literal in text for literal in (*spec.openers, *spec.ends, *spec.dropped)):
        return
    answer = read(spec, cut(text, places))
    assert (answer.content + answer.reasoning, answer.calls) == (text, [])


@settings(max_examples=200, deadline=None)
@given(spec=formats, calls=st.lists(st.sampled_from(CALLS[1:]), min_size=1, max_size=2), places=places)
def test_text_round_calls_comes_out_once(spec: Format, calls: list[tuple[str, str]], places: list[int]) -> None:
    before, after = "α β.\n\n\n", "\n\nγ δ."
    if is_markerless(spec):
        before = ""
    written = write_calls(spec, calls)
    lead = written[: len(written) - len(written.lstrip("\n"))]
    # One that a template writes behind calls is kept, where text follows.
    behind = written[len(written.rstrip("\n")) :]
    answer = read(spec, cut(before + written + after, places))
    assert [json.loads(arguments) for _, arguments in answer.calls] == [json.loads(one) for _, one in calls]
    # The template's own line feeds before calls are markup, no others are.
    assert answer.content == (before + lead).removesuffix("\n" * spec.newlines) + behind + after


@settings(max_examples=200, deadline=None)
@given(
    spec=formats,
    at=st.integers(0, 400),
    places=places,
    calls=st.lists(st.sampled_from(CALLS), min_size=1, max_size=2),
    head=st.sampled_from(["", "Yes. ", "Well\n"]),
    single=st.booleans(),
)
def test_replaying_at_any_cut_gives_the_same_events(
    spec: Format, at: int, places: list[int], calls: list[tuple[str, str]], head: str, single: bool
) -> None:
    """A parser that has read the beginning in other pieces goes on like the one that was there all along."""
    text = head + write_calls(spec, calls) + "\nThere."
    pieces = tokens_of(spec, text, places) if single else [(char, False) for char in text]
    known = single_tokens(spec) if single else []
    at %= len(pieces) + 1
    first, second = Parser(spec, TOOLS, single_tokens=known), Parser(spec, TOOLS, single_tokens=known)
    for piece, alone in pieces[:at]:
        first.feed(piece, None, alone)
    # Neighbours that are no tokens of their own become one piece.
    for alone, group in groupby(pieces[:at], lambda piece: piece[1]):
        batch = [piece for piece, _ in group]
        for piece in batch if alone else ["".join(batch)]:
            second.feed(piece, None, alone)
    wanted = [first.feed(piece, None, alone) for piece, alone in pieces[at:]]
    assert [second.feed(piece, None, alone) for piece, alone in pieces[at:]] == wanted
    assert second.finish() == first.finish()


def test_stop_tokens_never_become_content(spec: Format) -> None:
    for stop in spec.ends:
        pieces = [("Hello.", False), (stop, True)]
        assert gather(events_of(spec, pieces)).content == "Hello."
        call = [(write_calls(spec, [CALLS[1]]), False), (stop, True)]
        assert gather(events_of(spec, call)).content == ""
        events = events_of(spec, ["Hello.", stop])
        assert "".join(event.text for event in events if isinstance(event, Content)) == "Hello."


def test_arrays_and_objects_come_as_they_are_generated(spec: Format) -> None:
    text = write_calls(spec, [("update", json.dumps({"edits": EDITS}))])
    inside = text[text.index("src/a.py") : text.rindex("word by word")]
    markers = "|".join(map(re.escape, sorted({*literals_of(spec), spec.wire.quote} - {""}, key=len, reverse=True)))
    # About what a tokenizer makes of it: words with their space, escapes, runs of punctuation.
    # The tags of nested elements are no part of a value.
    tags = rf"(?:{re.escape(spec.wire.quote)}</?\w+>)+" if spec.wire.style == "elements" else r"(?!)"
    pieces = [
        piece
        for part in re.split(f"({tags})", inside)
        for piece in re.findall(rf'{tags}|{markers}|\\.| ?\w+|[^\w\s\\]+ ?"?|\s+|.', part)
    ]
    parser = Parser(spec, TOOLS)
    parser.feed(text[: text.index("src/a.py")])
    deltas = [
        any(isinstance(event, ArgumentsDelta) for event in events)
        for piece in pieces
        if (events := parser.feed(piece)) is not None and not re.fullmatch(tags, piece)
    ]
    assert len(deltas) > 60
    assert sum(deltas) >= 0.9 * len(deltas), sum(deltas) / len(deltas)


def test_events_are_no_later_than_the_longest_marker(spec: Format) -> None:
    value = " ".join(f"word{number}" for number in range(40))
    text = write_calls(spec, [("update", json.dumps({"text": value}))])
    if not spec.bare:
        text = "Some words before. " + text
    longest = max(map(len, literals_of(spec)), default=8)
    parser = Parser(spec, TOOLS)
    seen: list[Event] = []
    begin = text.index(value)
    for at, char in enumerate(text):
        seen += parser.feed(char)
        arguments = "".join(event.text for event in seen if isinstance(event, ArgumentsDelta))
        said = "".join(event.text for event in seen if isinstance(event, Content | Reasoning))
        if begin <= at < begin + len(value) - 1:
            assert any(isinstance(event, CallStart) for event in seen)
            assert len(arguments) >= at - begin - longest
        if not spec.bare and at < len("Some words before."):
            assert len(said) >= at - longest
    seen += parser.finish()
    assert sum(isinstance(event, CallEnd) for event in seen) == 1


def test_a_marker_of_one_token_that_waits_for_more_is_still_one(spec: Format) -> None:
    """Where a longer marker may follow, the next token must not make text of the first."""
    text = write_calls(spec, [CALLS[2], CALLS[6]])
    pieces = tokens_of(spec, text, [1, 3])
    assert read(spec, pieces, single_tokens=single_tokens(spec)) == read(spec, text)
