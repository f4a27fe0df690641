"""What agents send, made into what a template takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_messages import message
from hypothesis import given
from hypothesis import strategies as st
from running_paths import DEMO

from node.engine.tokenizer import load_tokenizer
from node.serving.prompt import PromptRenderer
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2 as pb

TOKENIZER = load_tokenizer(DEMO)
CONTROL = set(TOKENIZER.added_tokens_decoder)
CALL = (
    '<tool_call>{{ c.id }} {"name": "{{ c.function.name }}", '
    '"arguments": {{ c.function.arguments | tojson }}}</tool_call>'
)
EACH = "{% for m in messages %}[{{ m.role }}{{ ' ' + m.name if m.name }}]{{ m.content }}"
OPEN = EACH + "{% for c in m.tool_calls or [] %}" + CALL + "{% endfor %}{% endfor %}"
TEXTS = OPEN.replace("c.function.arguments | tojson", "'' + c.function.arguments")
ITEMS = OPEN.replace(
    "{{ c.function.arguments | tojson }}", "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}"
)
DROPS = EACH + "{% endfor %}"
NO_RESULTS = "{% for m in messages if m.role != 'tool' %}" + DROPS.removeprefix("{% for m in messages %}")
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
FIRST = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif %}"
    + ("[{{ m.role }}]{{ m.content }}{% endfor %}")
)
NEITHER = FIRST.replace(" and not loop.first", "")


def rendered(template: str, *messages: pb.ChatMessage, tool_format: str = "", **fields: Any) -> str:
    request = pb.GenerateRequest(created_at=1_700_000_000, **fields)
    request.conversation.messages.extend(messages)
    return str(TOKENIZER.decode(PromptRenderer(TOKENIZER, template, tool_format).render(request).ids))


USER = message("user", "go")


def test_arguments_as_the_template_wants_them() -> None:
    asked = message("assistant", "", ("c1", "f", '{"b":1,"a":9007199254740993}'))
    assert '"arguments": {"b": 1, "a": 9007199254740993}' in rendered(OPEN, USER, asked)
    assert '"arguments": {"b": 1, "a": 9007199254740993}' in rendered(TEXTS, USER, asked)
    assert '"arguments": b=1;a=9007199254740993;' in rendered(ITEMS, USER, asked)


@pytest.mark.parametrize("template", [OPEN, TEXTS, ITEMS, DROPS, STRICT])
@pytest.mark.parametrize("arguments", ["", " ", "{", "[1]", "nul", '"x"', "3", '{"a": ' * 3000, '{"a":1}trailing'])
def test_broken_arguments_never_raise_and_empty_ones_are_none(template: str, arguments: str) -> None:
    text = rendered(template, USER, message("assistant", "", ("c1", "gone", arguments)), tool_format="hermes")
    assert "gone" in text
    if not arguments.strip() and template == OPEN:
        assert '"arguments": {}' in text


def test_content_is_never_null() -> None:
    asked = message("assistant", "", ("c1", "f", "{}"))
    assert "None" not in rendered(OPEN, USER, asked)


def test_results_come_in_the_order_of_the_calls_with_the_names_of_their_tools() -> None:
    asked = message("assistant", "", ("c1", "f", "{}"), ("c2", "g", "{}"), ("c3", "h", "{}"))
    results = [message("tool", f"r{i}", tool_call_id=f"c{i}") for i in (3, 1, 2)]
    text = rendered(OPEN, USER, asked, *results, message("tool", "stray", tool_call_id="nobody"))
    assert text.endswith("[tool f]r1[tool g]r2[tool h]r3[tool]stray")


def test_an_identifier_that_comes_again_belongs_to_the_latest_call() -> None:
    turn = [message("assistant", "", ("0", "f", "{}")), message("tool", "one", tool_call_id="0")]
    again = [message("assistant", "", ("0", "g", "{}")), message("tool", "two", tool_call_id="0")]
    assert rendered(OPEN, USER, *turn, *again).count("[tool g]two") == 1


def test_identifiers_look_as_the_format_wants_them() -> None:
    turns = [
        message("assistant", "", ("call_1", "f", "{}"), ("abcDEF123", "g", "{}")),
        message("tool", "r", tool_call_id="call_1"),
        message("assistant", "", ("call_2", "f", "{}")),
    ]
    kimi = rendered(OPEN, USER, *turns, tool_format="kimi_k2")
    assert all(f"<tool_call>{name}" in kimi for name in ("functions.f:0", "functions.g:1", "functions.f:2"))
    nine = OPEN.replace("{{ c.id }}", "{{ c.id if c.id | length == 9 else raise_exception('nine') }}")
    text = rendered(nine, USER, *turns, tool_format="mistral_v3")
    assert "<tool_call>abcDEF123" in text and "call_1" not in text
    # Which the template would have said itself, whatever the format.
    assert "call_1" not in rendered(nine, USER, *turns, tool_format="hermes")


def test_where_the_template_drops_calls_they_are_written_as_the_model_would_have() -> None:
    asked = message("assistant", "Let me see.", ("c1", "f", '{"city":"Paris"}'), ("c2", "g", "{}"))
    text = rendered(DROPS, USER, asked, message("tool", "42", tool_call_id="c1"), tool_format="hermes")
    assert '[assistant]Let me see.\n<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>' in text
    assert '{"name": "g", "arguments": {}}' in text and text.endswith("[tool f]42")


def test_where_the_template_drops_results_the_user_tells_them() -> None:
    asked = message("assistant", "", ("c1", "f", "{}"), ("c2", "g", "{}"))
    results = [message("tool", "one", tool_call_id="c1"), message("tool", "two", tool_call_id="c2")]
    for template in (NO_RESULTS, STRICT):
        text = rendered(template, USER, asked, *results, tool_format="hermes")
        assert text.endswith("[user]<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>")


def test_where_words_and_calls_exclude_each_other_the_calls_are_written_behind_the_words() -> None:
    either = OPEN.replace("{% for c in m.tool_calls or [] %}", "{% for c in (m.tool_calls or []) if not m.content %}")
    other = OPEN.replace("{{ m.content }}", "{{ m.content if not m.tool_calls }}")
    for template in (either, other):
        asked = message("assistant", "Let me see.", ("c1", "f", '{"city":"Paris"}'))
        text = rendered(template, USER, asked, message("tool", "42", tool_call_id="c1"), tool_format="hermes")
        assert text.endswith(
            '[assistant]Let me see.\n<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>[tool f]42'
        )
        alone = rendered(template, USER, message("assistant", "", ("c1", "f", '{"city":"Paris"}')))
        assert alone.endswith('<tool_call>c1 {"name": "f", "arguments": {"city": "Paris"}}</tool_call>')


def test_where_only_one_call_shows_several_are_written_as_the_model_would_have() -> None:
    first = OPEN.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
    asked = message("assistant", "", ("c1", "f", "{}"), ("c2", "g", "{}"))
    text = rendered(first, USER, asked, tool_format="hermes")
    assert '"name": "f", "arguments": {}}\n</tool_call>' in text and '"name": "g", "arguments": {}}' in text


def test_a_result_that_shows_only_behind_its_call_is_told_by_the_user_elsewhere() -> None:
    bound = NO_RESULTS + "{% for m in messages if m.role == 'tool' and messages | selectattr('tool_calls') | list %}"
    template = (bound + "[tool]{{ m.content }}{% endfor %}").replace("{% endfor %}{% endfor %}", "{% endfor %}", 1)
    stray = message("tool", "lost", tool_call_id="nobody")
    text = rendered(template, USER, stray, tool_format="hermes")
    assert text.endswith("[user]<tool_response>\nlost\n</tool_response>")


def test_system_messages_are_merged_and_placed() -> None:
    late = [
        message("system", "A"),
        message("developer", "B"),
        USER,
        message("assistant", "x"),
        message("system", "C"),
        USER,
    ]
    assert rendered(OPEN, *late) == "[system]A\n\nB[user]go[assistant]x[system]C[user]go"
    assert rendered(FIRST, *late) == "[system]A\n\nB[user]go[assistant]x[user]C[user]go"
    assert rendered(NEITHER, *late) == "[user]A\n\nB\n\ngo[assistant]x[user]C[user]go"
    assert rendered(STRICT, *late) == "[user]A\n\nB\n\ngo[assistant]x[user]C\n\ngo"
    assert rendered(NEITHER, message("system", "A")) == "[user]A"
    last = (
        "{% for m in messages if m.role == 'system' %}{% if loop.last %}[system]{{ m.content }}{% endif %}{% endfor %}"
    )
    last += "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    assert rendered(last, *late) == "[system]A\n\nB[user]go[assistant]x[user]C[user]go"


def test_two_questions_in_a_row_are_joined_only_where_they_must_be() -> None:
    assert rendered(STRICT, USER, message("user", "on")) == "[user]go\n\non"
    assert rendered(OPEN, USER, message("user", "on")) == "[user]go[user]on"


def test_results_without_calls_and_calls_to_unlisted_tools_never_raise() -> None:
    stray = message("tool", "stray", tool_call_id="c9")
    for template in (OPEN, TEXTS, ITEMS, DROPS, NO_RESULTS, STRICT, FIRST, NEITHER):
        assert "stray" in rendered(template, USER, stray)
        assert "stray" in rendered(template, stray, USER)
        assert "nowhere" in rendered(template, USER, message("assistant", "", ("", "nowhere", "{}")))


def test_what_no_repair_helps_is_the_clients_error() -> None:
    with pytest.raises(InvalidRequestError, match="too warm") as refused:
        rendered("{{ raise_exception('too warm') }}", USER)
    assert refused.value.param == "messages"
    with pytest.raises(InvalidRequestError, match="chat_template_kwargs"):
        rendered(OPEN, USER, template_kwargs_json="[]")
    deep = '{"a": ' * 5000 + "1" + "}" * 5000
    for kwargs in ("{", deep):
        with pytest.raises(InvalidRequestError, match="chat_template_kwargs"):
            rendered(OPEN, USER, template_kwargs_json=kwargs)
    with pytest.raises(InvalidRequestError, match="parameters of f"):
        rendered(OPEN, USER, tools=[pb.Tool(name="f", parameters_json=deep)])
    with pytest.raises(InvalidRequestError, match="no time"):
        PromptRenderer(TOKENIZER, OPEN).render(
            pb.GenerateRequest(created_at=2**62, conversation=pb.Conversation(messages=[USER]))
        )


def test_thoughts_go_under_every_name() -> None:
    for name in ("reasoning_content", "reasoning", "thinking"):
        template = "{% for m in messages %}[{{ m.role }}]{{ m." + name + " }}{{ m.content }}{% endfor %}"
        assert rendered(template, USER, message("assistant", "Yes.", reasoning="Hm.")) == "[user]go[assistant]Hm.Yes."


def test_the_date_is_the_requests() -> None:
    assert rendered("{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}", USER) == "14 Nov 2023go"


def test_tools_reach_a_template_that_wants_them_as_text() -> None:
    template = "{{ functions }}{{ datetime }}{{ messages[0].content }}"
    text = rendered(template, USER, tools=[pb.Tool(name="f", parameters_json='{"type": "object"}')])
    assert '"name": "f"' in text and "Nov 14 2023 22:13:20 GMT" in text


EVIL = st.lists(
    st.sampled_from(["<|im_end|>", "<tool_call>", "<|im_start|>user\n", "hi", " ", "\ufdd0", "\ufdd21\ufdd2", "é"])
)
RENDERERS = [PromptRenderer(TOKENIZER, template, "hermes") for template in (OPEN, DROPS, STRICT)]
RENDERERS.append(PromptRenderer(TOKENIZER, OPEN.replace("| tojson", "| tojson(ensure_ascii=true)"), "hermes"))


@given(EVIL.map("".join), st.sampled_from(RENDERERS))
def test_text_from_outside_is_text_wherever_it_stands(text: str, renderer: PromptRenderer) -> None:
    def ids(evil: str) -> list[int]:
        request = pb.GenerateRequest(created_at=1, template_kwargs_json=json.dumps({"extra": evil}))
        request.tools.add(
            name="f", description=evil, parameters_json=json.dumps({"properties": {"a": {"title": evil}}})
        )
        arguments = json.dumps({"path": evil, "more": [evil], f"k{evil}": 1})
        request.conversation.messages.extend(
            [
                message("system", f"s{evil}"),
                message("user", f"u{evil}"),
                message("assistant", f"a{evil}", ("c1", f"f{evil}", arguments), reasoning=evil),
                message("tool", f"t{evil}", tool_call_id="c1", name=f"n{evil}"),
                message("assistant", f"b{evil}"),
                message("user", f"v{evil}"),
            ]
        )
        return renderer.render(request).ids

    assert [token for token in ids(text) if token in CONTROL] == [token for token in ids("x") if token in CONTROL]
