"""Generated turns that come back: which are known, which are not, and that memory stays small."""

from __future__ import annotations

from typing import Any

import pytest
from running_paths import DEMO

from node.engine.tokenizer import load_tokenizer
from node.serving.prompt import PromptRenderer
from node.serving.recall import Listener, Recall, Turn
from tandem.v1 import generation_pb2 as pb

TOKENIZER = load_tokenizer(DEMO)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
WRITTEN = '{"city": "Paris", "days": 1.0}'
OPEN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "</{{ m.role }}>\n{% endfor %}<assistant>{{ '<think>' if think }}"
)


def message(role: pb.Role.ValueType, text: str = "", arguments: str = "", **fields: Any) -> pb.ChatMessage:
    made = pb.ChatMessage(role=role, content=[pb.ContentPart(text=text)] if text else [], **fields)
    if arguments:
        made.tool_calls.add(tool_call_id="c1", name="f", arguments_json=arguments)
    return made


def user(text: str = "go") -> pb.ChatMessage:
    return message(pb.ROLE_USER, text)


def said(text: str = "", arguments: str = "", **fields: Any) -> pb.ChatMessage:
    return message(pb.ROLE_ASSISTANT, text, arguments, **fields)


def turn(*ids: int) -> Turn:
    return Turn("<assistant>", ids or (1, 2, 3))


def test_a_turn_is_known_by_the_meaning_of_everything_up_to_it() -> None:
    recall = Recall()
    recall.keep([user(), said("  Yes.\n", WRITTEN)], turn())
    for arguments in (WRITTEN, '{"days":1,"city":"Paris"}', '{"city":"Paris","days":1.0}'):
        assert set(recall.find([user(), said("Yes.", arguments, reasoning="hm"), user()])) == {1}
    for other in (
        '{"city": "Paris", "days": 2}',
        '{"city": "Paris", "days": "1"}',
        '{"city": "Paris", "days": true}',
        "{",
    ):
        assert not recall.find([user(), said("Yes.", other), user()])
    assert not recall.find([user("Go"), said("Yes.", WRITTEN), user()])
    assert not recall.find([message(pb.ROLE_SYSTEM, "s"), user(), said("Yes.", WRITTEN)])
    assert not recall.find([user(), said("No.", WRITTEN)])


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    recall = Recall(most_tokens=10)
    for name in ("a", "b", "c"):
        recall.keep([user(name), said("x")], turn())
    assert recall.find([user("a"), said("x")])
    recall.keep([user("d"), said("x")], turn())
    assert recall.find([user("a"), said("x")]) and not recall.find([user("b"), said("x")])
    assert recall.statistics() == {"turns": 3, "tokens": 9}
    recall.keep([user("d"), said("x")], turn(1))
    assert recall.statistics() == {"turns": 3, "tokens": 7}
    recall.keep([user("e"), said("x")], turn(*range(11)))
    assert recall.statistics() == {"turns": 0, "tokens": 0}


def events(reason: pb.FinishReason.ValueType, **finished: Any) -> list[pb.GenerationEvent]:
    call = pb.ToolCall(tool_call_id="c1", name="f", arguments_json=WRITTEN)
    return [
        pb.GenerationEvent(token_ids=[5, 6], content="Ye"),
        pb.GenerationEvent(token_ids=[7], content="s."),
        pb.GenerationEvent(token_ids=[8], tool_call_end=pb.ToolCallEnd(tool_call=call)),
        pb.GenerationEvent(token_ids=[9, END], finished=pb.Finished(reason=reason, **finished)),
    ]


def listened(listed: list[pb.GenerationEvent], opened: str | None = "<a>") -> dict[int, Turn]:
    recall = Recall()
    request = pb.GenerateRequest()
    request.conversation.messages.append(user())
    Listener(recall, request, opened, {END}).take(listed)
    return recall.find([user(), said("Yes.", WRITTEN), user()])


def test_a_turn_is_remembered_without_its_end() -> None:
    found = listened(events(pb.FINISH_REASON_TOOL_CALLS))
    assert list(found[1].ids) == [5, 6, 7, 8, 9] and found[1].opened == "<a>"


@pytest.mark.parametrize(
    "listed",
    [
        events(pb.FINISH_REASON_LENGTH),
        events(pb.FINISH_REASON_CANCELLED),
        events(pb.FINISH_REASON_STOP, stop="x"),
        events(pb.FINISH_REASON_STOP)[:-1],
        [pb.GenerationEvent(failed=pb.Failed(code="stage_lost"))],
    ],
)
def test_a_turn_that_did_not_end_by_itself_is_not_remembered(listed: list[pb.GenerationEvent]) -> None:
    assert not listened(listed)


def test_nor_one_whose_beginning_is_not_known() -> None:
    assert not listened(events(pb.FINISH_REASON_STOP), opened=None)


def prompt(renderer: PromptRenderer, *messages: pb.ChatMessage, **fields: Any) -> str:
    request = pb.GenerateRequest(created_at=1, **fields)
    request.conversation.messages.extend(messages)
    return str(TOKENIZER.decode(renderer.render(request).ids))


def generate(renderer: PromptRenderer, messages: list[pb.ChatMessage], text: str, **fields: Any) -> None:
    request = pb.GenerateRequest(created_at=1, **fields)
    request.conversation.messages.extend(messages)
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    finished = pb.Finished(reason=pb.FINISH_REASON_STOP)
    event = pb.GenerationEvent(token_ids=[*ids, END], content=text.rpartition("</think>")[2])
    renderer.listen(request, renderer.render(request), {END}).take([event, pb.GenerationEvent(finished=finished)])


def test_a_recalled_turn_stands_as_it_did_with_what_opened_it() -> None:
    renderer = PromptRenderer(TOKENIZER, OPEN, "hermes")
    thinking = {"template_kwargs_json": '{"think": true}'}
    generate(renderer, [user()], "Hm.</think>Yes.", **thinking)
    text = prompt(renderer, user(), said("Yes."), user("And now?"))
    assert text == "<user>go</user>\n<assistant><think>Hm.</think>Yes.</assistant>\n<user>And now?</user>\n<assistant>"
    other = prompt(renderer, user(), said("No."), user("And now?"))
    assert other == "<user>go</user>\n<assistant>No.</assistant>\n<user>And now?</user>\n<assistant>"


def test_a_prompt_that_memory_would_make_too_long_does_without() -> None:
    probe = PromptRenderer(TOKENIZER, OPEN, "hermes", context_tokens=120)
    generate(probe, [user()], "Hm. " * 100 + "</think>Yes.", template_kwargs_json='{"think": true}')
    assert "Hm." not in prompt(probe, user(), said("Yes."), user())
    roomy = PromptRenderer(TOKENIZER, OPEN, "hermes", context_tokens=4000)
    generate(roomy, [user()], "Hm. " * 100 + "</think>Yes.", template_kwargs_json='{"think": true}')
    assert "Hm." in prompt(roomy, user(), said("Yes."), user())


def test_messages_without_text_round_a_turn_leave_it_to_the_template() -> None:
    renderer = PromptRenderer(TOKENIZER, OPEN, "hermes")
    generate(renderer, [user()], "Hm.</think>Yes.", template_kwargs_json='{"think": true}')
    text = prompt(renderer, user(), said("Yes."), user(" "))
    assert text == "<user>go</user>\n<assistant>Yes.</assistant>\n<user> </user>\n<assistant>"


@pytest.mark.parametrize("short", ["a", "s", "user", "<", ">", "assistant", "</user>"])
def test_short_answers_end_where_they_end(short: str) -> None:
    renderer = PromptRenderer(TOKENIZER, OPEN, "hermes")
    generate(renderer, [user()], f"Hm.</think>{short}", template_kwargs_json='{"think": true}')
    text = prompt(renderer, user(), said(short), user("on"))
    turn = f"<assistant><think>Hm.</think>{short}</assistant>"
    assert text == f"<user>go</user>\n{turn}\n<user>on</user>\n<assistant>"
