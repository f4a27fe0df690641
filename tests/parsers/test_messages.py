"""Formats of messages with headers: channels, recipients, and what models make of them."""

import pytest

from parsers import get_format
from parsers.events import CallStart
from tests.parsers.reading import events_of, read

HARMONY = get_format("gpt_oss")
CALL = '{"count": 1}<|call|>'


@pytest.mark.parametrize(
    "header",
    [
        "<|channel|>commentary to=functions.update <|constrain|>json<|message|>",
        " to=functions.update<|channel|>commentary json<|message|>",
        "<|channel|>commentary to=functions.update<|message|>",
        "<|channel|>analysis to=functions.update code<|message|>",
        "<|start|>assistant to=functions.update<|channel|>commentary<|constrain|>json<|message|>",
        "<|start|>assistant<|channel|>commentary? to=functions.update <|constrain|>json<|message|>",
        "<|channel|>commentary to=update<|message|>",
    ],
)
def test_a_message_to_a_function_is_a_call(header: str) -> None:
    for text in (header + CALL, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant" + header + CALL):
        for pieces in ([text], list(text)):
            answer = read(HARMONY, pieces)
            assert (answer.calls, answer.content) == ([("update", '{"count": 1}')], "")


def test_channels() -> None:
    text = (
        "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>commentary<|message|>I will look."
        "<|end|><|start|>assistant<|channel|>commentary to=functions.ping <|constrain|>json<|message|>{}<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.update <|constrain|>json<|message|>" + CALL
    )
    answer = read(HARMONY, list(text))
    assert (answer.reasoning, answer.content) == ("Think.", "I will look.")
    assert answer.calls == [("ping", "{}"), ("update", '{"count": 1}')]
    answer = read(HARMONY, list("<|channel|>final<|message|>Done <b>.<|return|>"))
    assert (answer.content, answer.finish) == ("Done <b>.", "stop")


def test_without_tools_messages_to_people_are_still_read() -> None:
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Done.<|return|>"
    answer = read(HARMONY, list(text), tools=[])
    assert (answer.reasoning, answer.content) == ("Hm.", "Done.")
    call = "<|channel|>commentary to=functions.update<|message|>{}"
    assert read(HARMONY, call, tools=[]).content == call


def test_the_prompt_may_have_opened_the_thought() -> None:
    answer = read(
        HARMONY,
        " more.<|end|><|start|>assistant<|channel|>final<|message|>Done.",
        prompt_suffix="<|start|>assistant<|channel|>analysis<|message|>Some",
    )
    assert (answer.reasoning, answer.content) == (" more.", "Done.")


def test_a_broken_header_is_text() -> None:
    assert read(HARMONY, "<|channel|>final", end="length").content == "<|channel|>final"


@pytest.mark.parametrize(
    "broken",
    [
        "<|channel|>commentary to=functions.update <|constr\nSome words.\n",
        "<|channel|>comme some words are here ",
        "<|channel|>commentary to=functions.upd some words ",
        "<|start|>assistant to=functions.upd",
    ],
)
def test_a_header_that_breaks_off_is_text_and_hides_no_call(broken: str) -> None:
    text = f"{broken}<|channel|>commentary to=functions.update <|constrain|>json<|message|>{CALL}"
    for pieces in ([text], list(text)):
        answer = read(HARMONY, pieces)
        assert (answer.content, answer.calls) == (broken, [("update", '{"count": 1}')])


def test_a_marker_is_no_part_of_a_key_or_an_attribute() -> None:
    good = '<|open|>tools<|sep|><|open|>call tool="ping" index="0"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>'
    head = '<|open|>tools<|sep|><|open|>call tool="update" index="0"<|sep|><|open|>argument key="text" type="st words '
    for pieces in ([head + good], list(head + good)):
        answer = read(get_format("kimi_k3"), pieces)
        assert answer.calls == [("update", "{}"), ("ping", "{}")]
        assert "words" in answer.content


def test_a_call_of_elements_that_is_not_closed_hides_none() -> None:
    mark = "]<]minimax[>["
    good = f'{mark}<tool_call>\n{mark}<invoke name="ping">{mark}</invoke>\n{mark}</tool_call>'
    begun = f'{mark}<tool_call>\n{mark}<invoke name="update">{mark}<text>a{mark}</text>'
    for rest in ("", f"{mark}</inv words ", f"{mark}<\nwords "):
        for pieces in ([begun + rest + good], list(begun + rest + good)):
            answer = read(get_format("minimax_m3"), pieces)
            assert answer.calls == [("update", '{"text": "a"}'), ("ping", "{}")]
            assert answer.content == rest


def test_a_header_of_no_call_comes_out_whole() -> None:
    text = "<|start|>assistant to=exec<|channel|>commentary<|message|>ls -l"
    assert read(HARMONY, list(text)).content == text


def test_a_message_that_begins_inside_a_call_ends_it() -> None:
    pieces = [
        ("<|start|>", True),
        ('assistant to=update<|channel|>analysis<|message|><rfl:parameter name="text">\nnever closed', False),
        ("<|start|>", True),
        ("assistant<|channel|>final<|message|>Done.", False),
    ]
    answer = read(get_format("beam"), pieces)
    assert (answer.calls, answer.content) == ([("update", '{"text": "never closed"}')], "Done.")
    assert answer.warnings == ["the call was cut off by the next one"]


def test_an_analysis_for_the_assistant_is_a_thought() -> None:
    text = "<|channel|>commentary to=assistant<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    answer = read(HARMONY, list(text + "<|channel|>final<|message|>Done."))
    assert (answer.reasoning, answer.content) == ("Hm.", "Done.")


def test_muse_recipients() -> None:
    block = '<atem:function_calls>\n<atem:invoke name="update">\n<atem:parameter name="count">1</atem:parameter>\n'
    thought = " to=self<|message|>Hm.<|eom|><|start|>assistant to=update<|message|>"
    text = f"{thought}{block}</atem:invoke>\n</atem:function_calls>"
    answer = read(get_format("muse"), list(text + "<|eom|><|start|>assistant to=user<|message|>There.<|eot|>"))
    assert (answer.reasoning, answer.calls, answer.content) == ("Hm.", [("update", '{"count": 1}')], "There.")


def test_a_doubled_name() -> None:
    block = '<atem:function_calls>\n<atem:invoke name="{}">\n</atem:invoke>\n</atem:function_calls>'
    for written, name in (("ping.ping", "ping"), ("ping.pong", "ping.pong")):
        assert read(get_format("muse"), block.format(written)).calls == [(name, "{}")]


def test_escaped_attributes() -> None:
    call = '<|open|>call tool="{}" index="1"<|sep|><|close|>call<|sep|>'
    text = "<|open|>tools<|sep|>" + call.format("a&amp;b&quot;c") + "<|close|>tools<|sep|>"
    assert read(get_format("kimi_k3"), list(text)).calls == [('a&b"c', "{}")]


def test_the_end_of_a_section_ends_a_call_that_lacks_its_own() -> None:
    text = "<|tool_calls_section_begin|><|tool_call_begin|>functions.ping:0<|tool_call_argument_begin|>{}"
    answer = read(get_format("kimi_k2"), list(text + "<|tool_calls_section_end|>Done."))
    assert (answer.calls, answer.content) == ([("ping", "{}")], "Done.")
    broken = text[:-1] + '"a": 1<|tool_call_end|><|tool_calls_section_end|>Done.'
    answer = read(get_format("kimi_k2"), list(broken))
    assert (answer.calls, answer.content) == ([("ping", '{"a": 1')], "Done.")


def test_functionary_recipients() -> None:
    functionary = get_format("functionary_v32")
    answer = read(functionary, list('all\nHello.\n>>>update\n{"count": 1}>>>ping\n{}'), prompt_suffix=">>>")
    assert (answer.content, answer.calls) == ("Hello.", [("update", '{"count": 1}'), ("ping", "{}")])
    assert read(functionary, list("all\n>>> 1 + 1\n2")).content == ">>> 1 + 1\n2"


def test_identifiers_in_the_text() -> None:
    kimi = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.ping:7<|tool_call_argument_begin|>{}<|tool_call_end|>"
    )
    mistral = "[TOOL_CALLS]ping[CALL_ID]abc123456[ARGS]{}"
    for key, text, expected in (("kimi_k2", kimi, "functions.ping:7"), ("mistral", mistral, "abc123456")):
        starts = [event for event in events_of(get_format(key), list(text)) if isinstance(event, CallStart)]
        assert [(event.name, event.call_id) for event in starts] == [("ping", expected)]
