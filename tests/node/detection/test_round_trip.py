"""A conversation with a call comes back, and what the model saw before is a prefix of what it sees now."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from node.engine.head import Sample
from node.engine.tokenizer import load_tokenizer
from node.serving.generation import Answer, Generation
from node.serving.pieces import Vocabulary
from node.serving.prompt import Prompt, PromptRenderer
from node.serving.recall import Recall
from parsers import Parser, ToolSpec
from parsers.writing import write_calls
from tandem.v1 import generation_pb2 as pb

CASES = Path(__file__).parents[4] / "shared" / "tool-cases"
TOKENIZER: Any = load_tokenizer(Path(__file__).parents[3] / "node" / "demo")
VOCABULARY = Vocabulary(TOKENIZER)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "number"}, "tags": {"type": "array"}},
        "required": ["city"],
    }
)
WRITTEN = '{"city": "Paris", "days": 1.0, "tags": ["a", "b"]}'
SENT_BACK = '{"city":"Paris","days":1,"tags":["a","b"]}'
"""The same as an agent in JavaScript writes it."""
COMPACT = '{"city":"Paris","days":1.0,"tags":["a","b"]}'
"""And as one that only leaves out the spaces."""
THOUGHTS = ("They want the weather.", "The tool knows.")


def request(messages: list[pb.ChatMessage]) -> pb.GenerateRequest:
    made = pb.GenerateRequest(created_at=1_700_000_000, generation_id="0123456789abcdef01234567")
    made.conversation.messages.extend(messages)
    made.tools.add(name="get_weather", description="Tells the weather.", parameters_json=SCHEMA)
    return made


def message(role: pb.Role.ValueType, text: str = "", **fields: Any) -> pb.ChatMessage:
    return pb.ChatMessage(role=role, content=[pb.ContentPart(text=text)] if text else [], **fields)


class Model:
    """A model that says what it is told to, through the head's own events."""

    def __init__(self, renderer: PromptRenderer, *, thinks: bool) -> None:
        self.renderer = renderer
        self.spec = renderer.detection.format
        self.thinks = thinks and bool(self.spec.thoughts)

    def says(self, prompt: Prompt, rest: str, thought: str) -> tuple[str, str]:
        """The text of a turn behind this prompt, and the thought in it."""
        if not self.spec.thoughts:
            return rest, ""
        suffix, first = prompt.suffix, self.spec.thoughts[0]
        inside = any(suffix.rfind(one.open) > max(suffix.rfind(one.close), -1) for one in self.spec.thoughts)
        closed = any(suffix.rstrip().endswith(one.close) for one in self.spec.thoughts)
        if not inside and (closed or not self.thinks):
            return rest, ""
        thought = thought if self.thinks else ""
        if self.spec.key == "gpt_oss":
            return f"{first.open}{thought}{first.close}<|start|>assistant{rest}", thought
        return ("" if inside else f"{first.open}\n") + f"{thought}\n{first.close}\n\n{rest}", thought

    def turn(self, asked: pb.GenerateRequest, prompt: Prompt, text: str) -> tuple[pb.ChatMessage, list[int]]:
        """Generates the text; what the client gets, and the ids without the end of turn."""
        ids = TOKENIZER.encode(text, add_special_tokens=False)
        events = asyncio.run(self._events(prompt, [*ids, END]))
        listener = self.renderer.listen(asked, prompt, {END})
        listener.take(events)
        got = message(pb.ROLE_ASSISTANT, "".join(event.content for event in events))
        got.reasoning = "".join(event.reasoning for event in events)
        got.tool_calls.extend(event.tool_call_end.tool_call for event in events if event.HasField("tool_call_end"))
        return got, ids

    async def _events(self, prompt: Prompt, ids: list[int]) -> list[pb.GenerationEvent]:
        single = frozenset(marker for marker in self.spec.markers if marker in TOKENIZER.added_tokens_encoder)
        parser = Parser(self.spec, [ToolSpec("get_weather", SCHEMA)], True, prompt.suffix, single_tokens=single)
        answer = Answer((), frozenset({END}), False, own_ids=bool(self.spec.call_id))
        generation = Generation("0123456789abcdef01234567", VOCABULARY, parser, answer, 5)
        for token in ids:
            generation.on_sample(Sample(1, token, None, token == END))
        return [event async for ready in generation.events() for event in ready]


def round_trip(template: str, *, thinks: bool, sent_back: str = SENT_BACK, remembers: bool = True) -> str:
    """Why the second or the third prompt does not begin with the one before and what was generated; "" if they do.

    With memory its ids must, without its text: which tokens were drawn for it only memory knows.
    """

    def goes_on(before: list[int], now: list[int]) -> bool:
        if remembers:
            return now[: len(before)] == before
        return str(TOKENIZER.decode(now)).startswith(str(TOKENIZER.decode(before)))

    renderer = PromptRenderer(TOKENIZER, template)
    if not remembers:
        renderer.recall = Recall(0)
    model = Model(renderer, thinks=thinks)
    messages = [message(pb.ROLE_USER, "What is the weather in Paris?")]
    first = renderer.render(request(messages))
    calls = write_calls(model.spec, [("get_weather", WRITTEN)])
    text, thought = model.says(first, calls, THOUGHTS[0])
    asked, ids = model.turn(request(messages), first, text)
    assert [call.name for call in asked.tool_calls] == ["get_weather"], f"{model.spec.key}: {calls!r} gave {asked}"
    assert asked.reasoning.strip() == thought, f"{model.spec.key}: {asked}"
    call = asked.tool_calls[0]
    assert json.loads(call.arguments_json) == json.loads(SENT_BACK)
    call.arguments_json = sent_back
    messages += [asked, message(pb.ROLE_TOOL, "RESULT42", tool_call_id=call.tool_call_id)]
    second = renderer.render(request(messages))
    if not goes_on(first.ids + ids, second.ids):
        return "the call: " + _parting(first.ids + ids, second.ids)
    text, thought = model.says(second, _answer(model), THOUGHTS[1])
    said, ids = model.turn(request(messages), second, text)
    assert said.reasoning.strip() == thought and "sunny" in "".join(part.text for part in said.content), (
        f"{model.spec.key}: {said}"
    )
    messages += [said, message(pb.ROLE_USER, "Thanks.")]
    third = renderer.render(request(messages))
    if not goes_on(second.ids + ids, third.ids):
        return "the answer: " + _parting(second.ids + ids, third.ids)
    return ""


def _answer(model: Model) -> str:
    text = "It is sunny."
    return {
        "gpt_oss": f"<|channel|>final<|message|>{text}",
        "functionary_v32": f"all\n{text}",
    }.get(model.spec.key, text)


def _parting(before: list[int], now: list[int]) -> str:
    at = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), len(now))
    was, became = (TOKENIZER.decode(ids[max(0, at - 8) : at + 12]) for ids in (before, now))
    return f"{was!r} became {became!r}"


CHATML = """{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and loop.last and m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}
<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}"""
"""Opens a thought, and forgets it, and that it was opened, in every turn but the last."""


@pytest.mark.parametrize("thinks", [False, True])
def test_what_the_model_saw_and_wrote_stays_the_beginning_of_what_it_sees(thinks: bool) -> None:
    assert round_trip(CHATML, thinks=thinks) == ""


def test_without_memory_the_template_decides() -> None:
    assert round_trip(CHATML, thinks=True, remembers=False).startswith("the call: ")


@pytest.mark.skipif(not CASES.is_dir(), reason="the templates of real models are not beside this checkout")
@pytest.mark.parametrize("thinks", [pytest.param(False, marks=pytest.mark.slow), True])
def test_real_templates(thinks: bool) -> None:
    known = json.loads((CASES / "template_formats.json").read_text(encoding="utf-8"))
    missed = {}
    for name in sorted(name for name, formats in known.items() if formats is not None):
        template = (CASES / "chat_templates" / name).read_text(encoding="utf-8")
        if why := round_trip(template, thinks=thinks):
            missed[name] = why
    # Mistral's own moves the tools to the last question, as its models were trained.
    assert set(missed) == {
        "mistral-7b-v0.3_vllm.jinja",
        "mistral-nemo-2407.jinja",
        "mistral-small-3.2-24b-2506.jinja",
        "mistral-small-3_vllm.jinja",
    }, missed


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_dir(), reason="the templates of real models are not beside this checkout")
@pytest.mark.parametrize(("thinks", "least"), [(False, 41), (True, 13)])
def test_real_templates_without_memory(thinks: bool, least: int) -> None:
    """As many as the templates themselves allow, and arguments without spaces cost none of them."""
    known = json.loads((CASES / "template_formats.json").read_text(encoding="utf-8"))
    kept: dict[str, set[str]] = {WRITTEN: set(), COMPACT: set()}
    for name in sorted(name for name, formats in known.items() if formats is not None):
        template = (CASES / "chat_templates" / name).read_text(encoding="utf-8")
        for sent_back, names in kept.items():
            if not round_trip(template, thinks=thinks, sent_back=sent_back, remembers=False):
                names.add(name)
    assert kept[COMPACT] == kept[WRITTEN]
    assert len(kept[WRITTEN]) >= least
