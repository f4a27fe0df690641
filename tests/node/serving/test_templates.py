"""Chat templates: the text that transformers gives, the request's clock, and bounds on what a template may do."""

from __future__ import annotations

import copy
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pytest
import transformers.utils.chat_template_utils as theirs

from node.serving import templates
from node.serving.templates import ChatTemplate

TEMPLATES = Path(__file__).parents[4] / "shared" / "tool-cases" / "chat_templates"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "é <b> &"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": PARAMETERS}}
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": True}


def conversations() -> list[list[dict[str, Any]]]:
    user = {"role": "user", "content": "Weather in Paris?"}
    system = {"role": "system", "content": "Be brief."}
    arguments = {"city": "Paris", "days": 2, "more": [1, {"a": None}], "on": True, "share": 0.5}
    call = {"id": "abc123456", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    asked = {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "abc123456", "name": "get_weather", "content": "RESULT42"}
    said = {"role": "assistant", "content": "Sunny."}
    return [[user], [system, user], [user, asked, result], [user, asked, result, said, user], [user, said, user]]


def render(source: str, **variables: Any) -> str:
    return ChatTemplate(source).render([{"role": "user", "content": "x"}], None, variables)


@pytest.mark.skipif(not TEMPLATES.is_dir(), reason="the templates of real models are not beside this checkout")
def test_real_templates_give_the_text_that_transformers_gives() -> None:
    compared = 0
    for path in sorted(TEMPLATES.glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        ours = ChatTemplate(source)
        for messages in conversations():
            for tools in (None, [TOOL]):
                for opened in (True, False):
                    try:
                        (text,), _ = theirs.render_jinja_template(
                            [copy.deepcopy(messages)],
                            tools=tools,
                            chat_template=source,
                            add_generation_prompt=opened,
                            **VARIABLES,
                        )
                    except Exception:  # noqa: BLE001 (a program may raise anything)
                        continue
                    given = theirs._alias_reasoning_fields(copy.deepcopy(messages))
                    assert ours.render(given, tools, VARIABLES, generation_prompt=opened) == text, path.name
                    compared += 1
    assert compared > 2300


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | tojson }}",
        "{{ {'é': 1.5, 'b': none} | tojson(indent=2, sort_keys=true) }}",
        "{% for m in messages %}\n  {%- if loop.first %}a{% continue %}{% endif %}b{% endfor %}",
        "{% set ns = namespace(a=1) %}{% set ns.a = ns.a ~ 'x' ~ 2 %}{{ ns.a }}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ dict(a=1) }}",
        "{{ 'a,b'.split(',') | join('-') }}{{ '%05d' | format(7) }}{{ 'x' * 3 }}",
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') }}{{ range(3) | list }}",
    ],
)
def test_what_templates_use_works_as_in_transformers(source: str) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]
    (text,), _ = theirs.render_jinja_template([messages], chat_template=source)
    assert ChatTemplate(source).render(messages, None, {}, generation_prompt=False) == text


def test_the_clock_is_the_requests() -> None:
    source = "{{ strftime_now('%d %b %Y %H:%M') }}"
    now = datetime.fromtimestamp(1_700_000_000, UTC)
    assert ChatTemplate(source).render([], None, {}, now=now) == "14 Nov 2023 22:13"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in [1,2,3,4,5,6,7,8,9] %}" * 12 + "x" + "{% endfor %}" * 12,
        "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for i in range(9) %}{% set n.x = n.x.replace('a', 'aaaaaaaa') %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for i in range(9) %}{% set n.x = n.x|replace('a', 'aaaaaaaa') %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ 'x' * 9999999999 }}",
        "{{ ['x'] * 9999999999 }}",
        "{{ 'x'.ljust(9999999999) }}",
        "{{ 'x' | center(9999999999) }}",
        "{{ 'a\nb' | indent(9999999999) }}",
        "{{ messages | tojson(indent=9999999999) }}",
        "{{ [1] | batch(9999999999, 'x') | list }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ 9 ** 999999999 }}",
        "{% set ns = namespace(x=9) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% for i in range(99999) %}" + "x" * 999 + "{% endfor %}",
        "{{ lipsum(99999) }}",
        "x" * (templates.LONGEST_TEMPLATE + 1),
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% set ns = namespace(_x=1) %}",
    ],
)
def test_a_hostile_template_ends_soon_and_small(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises((jinja2.TemplateError, RecursionError, jinja2.exceptions.SecurityError)):
        render(source)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("source", ["{% for %}", "{{ x.y.z }}", "{{ 1 / 0 }}", "{% include 'secrets' %}"])
def test_a_broken_template_raises_when_it_is_rendered(source: str) -> None:
    template = ChatTemplate(source)
    with pytest.raises(Exception):  # noqa: B017
        template.render([], None, {})


def test_templates_may_gather_in_lists_and_hand_over_what_map_gives() -> None:
    source = "{% set l = [] %}{% for m in messages %}{% set _ = l.append(m.content) %}{% endfor %}{{ l.pop(0) }}{{ l }}"
    messages = [{"content": "a"}, {"content": "b"}]
    assert ChatTemplate(source).render(messages, None, {}) == "a['b']"
    assert ChatTemplate("{{ messages | map(attribute='content') | tojson }}").render(messages, None, {}) == '["a", "b"]'
