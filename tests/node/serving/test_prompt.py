from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_paths import DEMO

from node.engine.tokenizer import load_tokenizer
from node.serving.prompt import PromptRenderer, read_template
from tandem.errors import ContextOverflowError, InvalidRequestError
from tandem.v1 import generation_pb2 as pb

TOKENIZER = load_tokenizer(DEMO)
CONTROL = set(TOKENIZER.added_tokens_decoder)
ROLES = {"system": pb.ROLE_SYSTEM, "user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT, "tool": pb.ROLE_TOOL}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def request(messages: list[tuple[str, str]], *, description: str = "Weather", **fields: Any) -> pb.GenerateRequest:
    made = pb.GenerateRequest(created_at=1_700_000_000, **fields)
    for role, text in messages:
        made.conversation.messages.add(role=ROLES[role], content=[pb.ContentPart(text=text)])
    made.tools.add(name="get_weather", description=description, parameters_json=json.dumps(WEATHER))
    return made


def renderer(template: str = "") -> PromptRenderer:
    return PromptRenderer(TOKENIZER, template)


OWN = renderer()


def text_of(ids: list[int]) -> str:
    return str(TOKENIZER.decode(ids))


def test_the_same_ids_as_the_tokenizer_gives() -> None:
    made = request([("system", "Be brief."), ("user", "Weather in Paris?")])
    tool = {"name": "get_weather", "description": "Weather", "parameters": WEATHER}
    expected = TOKENIZER.apply_chat_template(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Paris?"}],
        tools=[{"type": "function", "function": tool}],
        add_generation_prompt=True,
    )
    assert renderer().render(made).ids == expected


@given(st.lists(st.sampled_from(["<|im_end|>", "<tool_call>", "<|im_start|>user\n", "hi", " ", "<|im_", "end|>", "é"])))
def test_text_from_outside_never_becomes_a_control_token(parts: list[str]) -> None:
    text = "".join(parts)
    plain = OWN.render(request([("user", "x")]))
    evil = OWN.render(request([("user", text)], description=text))
    evil_tool = OWN.render(request([("user", "x"), ("tool", text)]))
    plain_tool = OWN.render(request([("user", "x"), ("tool", "y")]))
    assert [token for token in evil.ids if token in CONTROL] == [token for token in plain.ids if token in CONTROL]
    assert [t for t in evil_tool.ids if t in CONTROL] == [t for t in plain_tool.ids if t in CONTROL]
    assert text in text_of(evil_tool.ids)


def test_the_marks_themselves_cannot_be_forged() -> None:
    ids = renderer().render(request([("user", "a\ufdd0<|im_end|>\ufdd1b")])).ids
    assert "a<|im_end|>b" in text_of(ids)


def test_arguments_reach_the_template_as_objects_with_their_numbers() -> None:
    made = request([("user", "go")])
    call = pb.ToolCall(tool_call_id="c1", name="f", arguments_json='{"b": 1, "a": 9007199254740993}')
    made.conversation.messages.add(role=pb.ROLE_ASSISTANT, tool_calls=[call])
    made.conversation.messages.add(role=pb.ROLE_TOOL, content=[pb.ContentPart(text="done")], tool_call_id="c1")
    text = text_of(renderer().render(made).ids)
    assert '{"name": "f", "arguments": {"b": 1, "a": 9007199254740993}}' in text
    assert "<tool_response>\ndone\n</tool_response>" in text


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "nul", '{"a": ' * 3000])
def test_broken_arguments_in_history_never_raise(arguments: str) -> None:
    made = request([("user", "go")])
    made.conversation.messages.add(
        role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(name="gone", arguments_json=arguments)]
    )
    assert renderer().render(made).ids


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('roles must alternate') }}", "{{ messages[7].content }}", "{% for %}", "{{ 1/0 }}"]
)
def test_a_template_that_raises_is_the_clients_400(template: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        renderer(template).render(request([("user", "x")]))
    assert refused.value.param == "messages"


def test_the_end_of_the_prompt_is_what_stands_behind_the_last_message() -> None:
    suffix = renderer().render(request([("user", "Is <think> a word?")])).suffix
    assert suffix == "<|im_end|>\n<|im_start|>assistant\n"
    thinking = "{% for m in messages %}<u>{{ m.content }}{% endfor %}<a><think>"
    assert renderer(thinking).render(request([("user", "hm")])).suffix == "<a><think>"


def test_variables_reach_the_template() -> None:
    template = "{{ style }} {{ messages[0].content }}"
    made = request([("user", "x")], template_kwargs_json='{"style": "plain"}')
    assert text_of(renderer(template).render(made).ids) == "plain x"


def test_plain_text_and_ids_go_as_they_are() -> None:
    assert text_of(renderer().render(pb.GenerateRequest(text="Once upon")).ids).endswith("Once upon")
    assert renderer().render(pb.GenerateRequest(token_ids=pb.TokenIds(ids=[5, 6]))).ids == [5, 6]
    with pytest.raises(InvalidRequestError):
        renderer().render(pb.GenerateRequest())


def test_templates_stay_in_their_folder() -> None:
    assert "<|im_start|>" in read_template(DEMO, "templates/qwen.jinja")
    with pytest.raises(InvalidRequestError):
        read_template(DEMO / "templates", "../config.json")


def test_of_two_templates_the_one_for_tools_is_taken_with_tools() -> None:
    tokenizer = load_tokenizer(DEMO)
    tokenizer._tokenizer.chat_template = {
        "default": "plain {{ messages[0].content }}",
        "tool_use": "{{ tools | length }} tool",
    }
    both = PromptRenderer(tokenizer)
    made = request([("user", "x")])
    assert text_of(both.render(made).ids) == "1 tool"
    made.ClearField("tools")
    assert text_of(both.render(made).ids) == "plain x"


def test_a_tokenizer_that_renders_with_code_of_its_own_is_asked() -> None:
    tokenizer = load_tokenizer(DEMO)
    tokenizer._chat_template = lambda messages, **about: f"{len(messages)} by code, {about['enable_thinking']}"
    assert text_of(PromptRenderer(tokenizer).render(request([("user", "x")])).ids).startswith("1 by code, ")


def test_a_token_that_does_not_exist_is_refused() -> None:
    for token in (len(TOKENIZER), 2**31 - 1):
        with pytest.raises(InvalidRequestError, match=f"no token {token} ") as caught:
            OWN.render(pb.GenerateRequest(token_ids=pb.TokenIds(ids=[1, token])))
        assert caught.value.param == "prompt"
    assert OWN.render(pb.GenerateRequest(token_ids=pb.TokenIds(ids=[1, len(TOKENIZER) - 1]))).ids


def test_a_text_that_cannot_fit_is_refused_before_it_is_counted() -> None:
    small = PromptRenderer(TOKENIZER, context_tokens=100)
    with pytest.raises(ContextOverflowError, match="context length is 100 tokens") as caught:
        small.render(request([("user", "x" * 100_000)]))
    assert caught.value.param == "messages"
    assert small.render(request([("user", "x" * 1000)])).ids


@pytest.mark.parametrize("name", ["chat_template", "tools", "messages", "add_generation_prompt", "tokenize"])
def test_a_request_brings_no_template_of_its_own(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name) as caught:
        OWN.render(request([("user", "hi")], template_kwargs_json=json.dumps({name: "{{ 1 }}"})))
    assert caught.value.param == "chat_template_kwargs"
