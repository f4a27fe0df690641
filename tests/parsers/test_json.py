"""Calls that are JSON objects: key order, damage, wrapped arguments, markers of one and of several tokens."""

import json
import time

import pytest

from parsers import Parser, ToolSpec, get_format
from parsers.events import CallEnd, CallStart
from tests.parsers.reading import events_of, read

HERMES = get_format("hermes")
LLAMA = get_format("llama3_json")
LONG = '{"count": ' + "7" * 5000 + "}"
GOOD = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'


def block(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"arguments": {"text": "x"}, "name": "update"}', '{"text": "x"}'),
        ('{"name": "update", "arguments": "{\\"text\\": \\"a\\\\nb\\"}"}', '{"text": "a\\nb"}'),
        ('{"name": "update", "arguments": ""}', "{}"),
        ('{"name": "update", "arguments": null}', "{}"),
        ('{"name": "update"}', "{}"),
        ('{"name": "update", "parameters": {"count": 1}}', '{"count": 1}'),
        ('{"type": "function", "function": {"name": "update", "arguments": {"count": 1}}}', '{"count": 1}'),
        ('{"id": "x", "extra": [1, {"name": "no"}], "name": "update", "arguments": {}}', "{}"),
        (
            '{"name": "update", "arguments": {"text": "</tool_call>\\n<tool_call>"}}',
            '{"text": "</tool_call>\\n<tool_call>"}',
        ),
        (f'{{"name": "update", "arguments": {LONG}}}', LONG),
        ('{"name": "update", "arguments": {"text": "\\ud83c\\udf06"}}', '{"text": "\\ud83c\\udf06"}'),
    ],
)
def test_a_call(body: str, arguments: str) -> None:
    for pieces in ([block(body)], list(block(body))):
        answer = read(HERMES, pieces)
        assert answer.calls == [("update", arguments)]
        assert (answer.content, answer.warnings) == ("", [])


def test_an_identifier_is_reported_wherever_it_stands() -> None:
    events = events_of(HERMES, [block('{"name": "ping", "arguments": {}, "id": "a1"}')])
    assert [event.call_id for event in events if isinstance(event, CallEnd)] == ["a1"]
    events = events_of(HERMES, [block('{"id": "a1", "name": "ping", "arguments": {}}')])
    assert [event.call_id for event in events if isinstance(event, CallStart)] == ["a1"]


@pytest.mark.parametrize(
    "broken",
    [
        "<tool_call>\nI think I should look.\n</tool_call>",
        '<tool_call>\n{"arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
        '<tool_call>\n{name: "ping"}\n</tool_call>',
        "<tool_call><tool_call>",
    ],
)
def test_a_malformed_call_is_text_and_the_good_ones_beside_it_stay(broken: str) -> None:
    for text in (f"{GOOD}\n{broken}\n{GOOD}", f"{broken}\n{GOOD}"):
        answer = read(HERMES, list(text))
        assert answer.calls == [("ping", "{}")] * text.count(GOOD)
        assert "".join(broken.split()) in "".join(answer.content.split())


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("hermes", "<tool_call>\n</tool_call>"),
        ("qwen3_5", "<tool_call></tool_call>"),
        ("minimax_m2", "<minimax:tool_call></minimax:tool_call>"),
        ("kimi_k2", "<|tool_calls_section_begin|><|tool_calls_section_end|>"),
    ],
)
def test_markers_with_nothing_between_them_are_markup(key: str, text: str) -> None:
    for pieces in ([f"A {text}B"], list(f"A {text}B")):
        answer = read(get_format(key), pieces)
        assert (answer.content, answer.calls, answer.warnings) == ("A B", [], [])
    # With the least between them they are a malformed call.
    broken = text.replace(">", ">-", 1)
    assert read(get_format(key), f"A {broken}B").content == f"A {broken}B"


@pytest.mark.parametrize(
    "behind",
    [', "id": "\n\nwords ', ', "i\n\nwords ', ', "words {"a": 1} ', ', "id":  words {"a": 1} ', ", words "],
)
def test_damage_behind_the_arguments_loses_nothing(behind: str) -> None:
    mistral = get_format("mistral_v3")
    good = '[TOOL_CALLS][{"name": "ping", "arguments": {}, "id": "abc123456"}]'
    text = '[TOOL_CALLS][{"name": "update", "arguments": {"count": 1}' + behind + good
    for pieces in ([text], list(text)):
        answer = read(mistral, pieces)
        assert answer.calls == [("update", '{"count": 1}'), ("ping", "{}")]
        assert "words" in answer.content and "TOOL" not in answer.content


def test_what_may_be_the_arguments_is_not_dropped_at_the_end() -> None:
    for text in ('<tool_call>\n{"name": "update", "argumnts": {"count": 1', '<tool_call>\n{"name": "update", "argu'):
        answer = read(HERMES, list(text))
        assert (answer.content, answer.calls) == (text, [])


def test_a_single_token_marker_opens_anywhere_among_the_arguments() -> None:
    begun = '[TOOL_CALLS]update[ARGS]{"count": 3words\n'
    pieces = [(begun, False), ("[TOOL_CALLS]", True), ("ping", False), ("[ARGS]", True), ("{}", False)]
    assert read(get_format("mistral"), pieces).calls == [("update", '{"count": 3words\n'), ("ping", "{}")]
    pieces = [("<|tool_call>call:update{te words", False), ("<|tool_call>", True), ("call:ping{}<tool_call|>", False)]
    assert [name for name, _ in read(get_format("gemma4"), pieces).calls] == ["update", "ping"]


def test_half_a_marker_at_the_token_limit_is_no_text() -> None:
    text = f"A\n{GOOD}"
    for end in range(text.index("</tool_call>") + 1, len(text) + 1):
        answer = read(HERMES, text[:end], end="length")
        assert (answer.content, answer.calls, answer.finish) == ("A", [("ping", "{}")], "length")


def test_a_call_whose_arguments_stand_under_another_key_is_text() -> None:
    text = block('{"name": "update", "argument": {"count": 1}}')
    answer = read(HERMES, list(text))
    assert (answer.calls, answer.content) == ([], text)


def test_several_calls_in_one_block() -> None:
    one = '{"name": "ping", "arguments": {}}'
    for body in (f"{one}\n{one}", f"[{one}, {one}]"):
        answer = read(HERMES, list("Now: " + block(body) + " Done."))
        assert (answer.calls, answer.content) == ([("ping", "{}")] * 2, "Now:  Done.")


def test_a_name_that_the_limit_leaves_alone_is_a_call() -> None:
    answer = read(HERMES, '<tool_call>\n{"name": "update", "argu', end="length")
    assert (answer.calls, answer.content, answer.finish) == ([("update", "")], "", "length")
    answer = read(HERMES, '<tool_call>\n{"name": "other", "argu', end="length")
    assert answer.calls == []


def test_line_feeds_before_a_marker_that_is_none_stay() -> None:
    text = "A.\n\n<tool_call>no</tool_call>\n\n<tool_call>\nnor here"
    assert read(HERMES, list(text)).content == text


def test_what_is_fed_later_does_not_change_what_was_returned() -> None:
    parser = Parser(HERMES, [ToolSpec("ping")])
    first = parser.feed("<tool_")
    assert first == []
    parser.feed("call> no")
    parser.finish()
    assert first == []


def test_the_first_token_of_a_marker_waits_and_stays_a_token() -> None:
    pieces = [("<|channel|>", True), ("commentary to=functions.ping", False), ("<|message|>", True), ("{}", False)]
    assert read(get_format("gpt_oss"), pieces, single_tokens=["<|channel|>"], tools=[ToolSpec("ping")]).calls == [
        ("ping", "{}")
    ]


def test_null_and_other_words_as_arguments() -> None:
    mistral = get_format("mistral")
    for pieces in (["[TOOL_CALLS]ping[ARGS]null"], list("[TOOL_CALLS]ping[ARGS]null")):
        assert read(mistral, pieces).calls == [("ping", "{}")]
    assert read(mistral, list("[TOOL_CALLS]ping[ARGS]not this")).calls == []


def test_brackets_that_do_not_fit_cost_no_more_than_others() -> None:
    text = block('{"name": "update", "arguments": {"tags": ' + "[" * 100_000 + "}" * 100_000)
    begin = time.process_time()
    read(HERMES, text)
    assert time.process_time() - begin < 5


def test_broken_arguments_stay_as_they_were_written() -> None:
    answer = read(HERMES, [*block('{"name": "update", "arguments": {"text": Paris, "count": 1}}'), GOOD])
    assert answer.calls == [("update", '{"text": Paris, "count": 1}'), ("ping", "{}")]
    assert answer.warnings == ["the arguments are not valid JSON"]
    assert answer.content == ""


def test_missing_brackets_end_with_the_marker() -> None:
    answer = read(HERMES, list('<tool_call>\n{"name": "update", "arguments": {"tags": [1\n</tool_call>ok ' + GOOD))
    assert answer.calls == [("update", '{"tags": [1\n'), ("ping", "{}")]
    assert answer.content == "ok "


@pytest.mark.parametrize("closed", ["", "}", "}\n"])
def test_a_call_without_its_closing_marker_counts(closed: str) -> None:
    answer = read(HERMES, '<tool_call>\n{"name": "update", "arguments": {"count": 1}' + closed)
    assert answer.calls == [("update", '{"count": 1}')]


def test_text_after_a_call_is_kept() -> None:
    answer = read(HERMES, list(f"Now:\n{GOOD}\n{GOOD}\nThat was it."))
    assert len(answer.calls) == 2
    assert answer.content == "Now:\nThat was it." or answer.content == "Now:" + "\nThat was it."


def test_an_undeclared_name_is_a_call_with_a_warning() -> None:
    answer = read(HERMES, block('{"name": "other", "arguments": {}}'))
    assert answer.calls == [("other", "{}")]
    assert answer.warnings == ["the tool 'other' is not declared"]


def test_a_marker_in_a_code_fence_is_text_unless_it_is_one_token() -> None:
    text = f"Look:\n```xml\n{GOOD}\n```\n"
    answer = read(HERMES, list(text))
    assert (answer.content, answer.calls) == (text, [])
    answer = read(
        HERMES, [("Look:\n```xml\n", False), ("<tool_call>", True), (GOOD.removeprefix("<tool_call>"), False)]
    )
    assert answer.calls == [("ping", "{}")]
    answer = read(HERMES, text + GOOD)
    assert answer.calls == [("ping", "{}")]


def test_a_marker_that_the_vocabulary_has_is_text_in_several_pieces() -> None:
    pieces = list(f"Write {GOOD} please")
    assert read(HERMES, pieces, single_tokens=["<tool_call>"]).content == "".join(pieces)
    assert len(read(HERMES, pieces).calls) == 1


def test_a_single_token_marker_opens_inside_a_string_where_a_call_follows() -> None:
    begun = '<tool_call>\n{"name": "update", "arguments": {"text": "never closed '
    rest = GOOD.removeprefix("<tool_call>")
    answer = read(HERMES, [(begun, False), ("<tool_call>", True), *((piece, False) for piece in rest)])
    assert answer.calls == [("update", '{"text": "never closed '), ("ping", "{}")]
    answer = read(HERMES, [(begun, False), ("<tool_call>", True), ('..."}}\n</tool_call>', False)])
    assert answer.calls == [("update", '{"text": "never closed <tool_call>..."}')]
    assert answer.content == ""


def test_a_call_inside_a_thought_ends_it() -> None:
    answer = read(HERMES, list(f"<think>\nLet me look.\n{GOOD}\nThere."))
    assert (answer.reasoning, answer.calls, answer.content) == ("Let me look.", [("ping", "{}")], "\nThere.")
    answer = read(HERMES, list(f"<think>\nLet me look.\n{GOOD}\n</think>\n\nThere. </think>"))
    assert (answer.reasoning, answer.content) == ("Let me look.", "There. </think>")
    undeclared = block('{"name": "other", "arguments": {}}')
    answer = read(HERMES, list(f"<think>\nNot {undeclared} but\n</think>\n\nthis."))
    assert (answer.calls, answer.content) == ([], "this.")
    assert undeclared in answer.reasoning


def test_the_newlines_of_the_template_are_dropped_and_no_others() -> None:
    answer = read(HERMES, list(f"<think>\n\nA.\n\n</think>\n\n\nB.\n\n{GOOD}"))
    assert (answer.reasoning, answer.content) == ("\nA.\n", "\nB.\n")


def test_held_text_comes_out_at_the_end() -> None:
    assert read(HERMES, list("The operator is <")).content == "The operator is <"
    answer = read(HERMES, '<tool_call>\n{"name": "upd', end="length")
    assert (answer.content, answer.finish) == ('<tool_call>\n{"name": "upd', "length")


def test_deep_nesting_needs_no_stack() -> None:
    nested = "[" * 100_000 + "]" * 100_000
    answer = read(HERMES, block('{"name": "update", "arguments": {"tags": ' + nested + "}}"))
    assert answer.calls == [("update", '{"tags": ' + nested + "}")]


# Llama: no marker


@pytest.mark.parametrize("joint", ["; ", "\n", ", ", ";", " ; "])
@pytest.mark.parametrize("tag", ["", "<|python_tag|>"])
def test_several_bare_calls(joint: str, tag: str) -> None:
    one = '{"name": "ping", "parameters": {}}'
    for text in (tag + joint.join([one] * 3), f"{tag}[{', '.join([one] * 3)}]"):
        answer = read(LLAMA, [*text, ("<|eom_id|>", True)])
        assert (answer.calls, answer.content) == ([("ping", "{}")] * 3, "")


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "ping"}',
        '{"name": "ping", "age": 3}',
        '{"name": "Alice", "parameters": {"a": 1}} is how it looks.',
        '{"x": 1}',
        "[1, 2]",
        '{"name": "Alice", "parameters": {a}}',
        'Here: {"name": "ping", "parameters": {}}',
        "{",
    ],
)
def test_json_in_an_ordinary_answer_is_an_answer(text: str) -> None:
    for pieces in ([text], list(text)):
        answer = read(LLAMA, pieces)
        assert (answer.content, answer.calls) == (text, [])


def test_an_undeclared_bare_name_counts_only_if_the_whole_answer_is_calls() -> None:
    text = '{"name": "other", "parameters": {"a": 1}}; {"name": "ping", "parameters": {}}'
    answer = read(LLAMA, list(text))
    assert answer.calls == [("other", '{"a": 1}'), ("ping", "{}")]
    for end in ("<|eot_id|>", ("<|eot_id|>", True)):
        assert len(read(LLAMA, [text, end]).calls) == 2
        assert read(LLAMA, [text, end, " and more"]).calls == []
    answer = read(LLAMA, [text + "<|eot_id|>more"])
    assert (answer.content, answer.calls) == (text + "<|eot_id|>more", [])
    answer = read(LLAMA, list(text + " and more"))
    assert (answer.content, answer.calls) == (text + " and more", [])


def test_tools_without_schemas_work() -> None:
    assert read(HERMES, GOOD, tools=[ToolSpec("ping")]).calls == [("ping", "{}")]
    assert read(HERMES, GOOD, tools=[ToolSpec("ping", "not json")]).calls == [("ping", "{}")]


def test_arguments_are_json_for_the_client() -> None:
    answer = read(HERMES, block('{"name": "update", "arguments": {"text": "a\\u0041"}}'))
    assert json.loads(answer.calls[0][1]) == {"text": "aA"}
