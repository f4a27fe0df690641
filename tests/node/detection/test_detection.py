"""Which format a model speaks: told by what its template writes, never by a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.serving.detection import Detection, Probe, detect, probe
from node.serving.templates import ChatTemplate
from parsers import FORMATS
from tandem.errors import InvalidRequestError

CASES = Path(__file__).parents[4] / "shared" / "tool-cases"
SYSTEM = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}"
EACH = SYSTEM + "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}"
REST = "{% endfor %}<|end|>{% endfor %}"

HERMES = (
    EACH
    + '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
    + REST
)
CODER = (
    EACH
    + "<tool_call>\n<function={{ c.function.name }}>\n{% for k, v in c.function.arguments.items() %}"
    + "<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"
    + REST
)
TEXT_ARGUMENTS = (
    EACH
    + "functools[{{ '{\"name\": \"' + c.function.name + '\", \"arguments\": ' + c.function.arguments + '}' }}]"
    + REST
)
SILENT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
TELLS = (
    "{% if tools %}Answer <|tool_call|> and a list of calls.<|end_of_text|>{{ tools | tojson }}{% endif %}"
    + SILENT.replace("<|end|>", "")
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
)


def probed(source: str) -> Probe:
    template = ChatTemplate(source)

    def render(messages: Any, tools: Any, opened: bool) -> str:
        return template.render(messages, tools, {"bos_token": "<s>", "eos_token": "</s>"}, generation_prompt=opened)

    return probe(render)


def found(source: str, **known: Any) -> Detection:
    return detect(probed(source), source, **known)


@pytest.mark.skipif(not CASES.is_dir(), reason="the templates of real models are not beside this checkout")
def test_real_templates() -> None:
    known = json.loads((CASES / "template_formats.json").read_text(encoding="utf-8"))
    missed = {}
    for name, formats in known.items():
        source = (CASES / "chat_templates" / name).read_text(encoding="utf-8")
        detection = found(source)
        if (detection.format.key if detection.how else None) not in (formats or [None]):
            missed[name] = detection.format.key if detection.how else None
    # The first writes history as Command R7B does; the others drop calls, and only the vocabulary knows.
    assert missed == {"cohere2moe.jinja": "command_r7b", "lfm2.5-instruct.jinja": None, "smollm3-3b.jinja": None}


@pytest.mark.parametrize(
    ("source", "key", "how"),
    [
        (HERMES, "hermes", "rendered call"),
        (CODER, "qwen3_coder", "rendered call"),
        (CODER + "<think>", "qwen3_5", "rendered call"),
        (TEXT_ARGUMENTS, "phi4_mini", "rendered call"),
        (TELLS, "granite3", "instructions"),
        (SILENT, "generic_none", ""),
        ("", "generic_none", ""),
        ("{% for %}", "generic_none", ""),
        ("{{ raise_exception('no') }}", "generic_none", ""),
    ],
)
def test_the_known_call_tells(source: str, key: str, how: str) -> None:
    detection = found(source)
    assert (detection.format.key, detection.how) == (key, how)
    assert detection.why


def test_a_setting_comes_first_and_must_exist() -> None:
    assert found(HERMES, setting="glm47").format.key == "glm47"
    with pytest.raises(InvalidRequestError, match="unknown tool format nonsense"):
        found(HERMES, setting="nonsense")


def test_a_response_template_comes_before_the_probe() -> None:
    template = {"version": 1, "fields": {"tool_calls": {"open": "<minimax:tool_call>", "close": "x"}}}
    detection = found(HERMES, response_template=template)
    assert (detection.format.key, detection.how) == ("minimax_m2", "response template")
    # One that opens calls as several formats do leaves the choice among them to the probe.
    several = {"fields": {"tool_calls": {"open": ["<tool_call>"]}}}
    assert found(CODER, response_template=several).format.key == "qwen3_coder"


@pytest.mark.parametrize(
    "template",
    [{}, {"fields": None}, {"fields": {"tool_calls": 3}}, {"fields": {"tool_calls": {"open": [3, ""]}}}, [1]],
)
def test_a_response_template_that_says_nothing_is_passed_over(template: Any) -> None:
    assert found(HERMES, response_template=template).how == "rendered call"


def test_the_vocabulary_and_then_the_models_type() -> None:
    lfm = {"<|tool_call_start|>", "<|tool_call_end|>", "<|im_end|>"}
    assert (found(SILENT, vocabulary=lfm).format.key, found(SILENT, vocabulary=lfm).how) == ("lfm2", "vocabulary")
    kimi = {"<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_end|>", "<|im_end|>"}
    assert found(SILENT, vocabulary=kimi, model_type="lfm2").format.key == "kimi_k2"
    assert found(SILENT, vocabulary={"<tool_call>", "</tool_call>", "<|im_end|>"}).format.key == "hermes"
    assert (found(SILENT, model_type="gpt_oss").format.key, found(SILENT, model_type="gpt_oss").how) == (
        "gpt_oss",
        "model type",
    )
    assert found(SILENT, vocabulary={"<s>", "<b>"}, model_type="llama").how == ""


def test_quirks_are_found() -> None:
    assert probed(TEXT_ARGUMENTS).quirks.text_arguments and not probed(HERMES).quirks.text_arguments
    assert probed(SILENT).quirks.drops_calls and not probed(HERMES).quirks.drops_calls
    strict = probed(STRICT).quirks
    assert strict.alternates and strict.drops_system and strict.system_first and strict.drops_results
    assert probed(HERMES.replace("{{ m.content }}", "{{ m.content | trim }}")).quirks.null_content == "printed"
    nine = HERMES.replace("<tool_call>", "{% if c.id | length != 9 %}{{ raise_exception('id') }}{% endif %}<tool_call>")
    assert probed(nine).quirks.nine and not probed(HERMES).quirks.nine
    assert probed("{{ tools | length }}" + HERMES).quirks.empty_tools
    usual = probed(HERMES).quirks
    assert not (usual.drops_words or usual.one_call or usual.drops_strays or usual.wraps_broken or usual.system_first)
    assert probed(HERMES.replace("{{ m.content }}", "{{ m.content if not m.tool_calls }}")).quirks.drops_words
    assert probed(HERMES.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")).quirks.one_call
    described = (
        "{% for t in tools or [] %}{% for p in t.function.parameters.properties.values() %}{{ p.description | upper }}"
    )
    assert not probed(described + "{% endfor %}{% endfor %}" + HERMES).error
    assert all(word for word in strict.in_words())


@pytest.mark.parametrize("key", list(FORMATS))
def test_a_template_made_from_a_formats_own_data_is_recognised_as_one_that_writes_so(key: str) -> None:
    """A new format is recognised by its data alone: by itself, or as another that writes a call alike."""
    from parsers.writing import write_calls

    spec = FORMATS[key]
    written = write_calls(spec, [("get_forecast", '{"city": "Lyon", "days": 3}')])
    detection = detect(Probe(call=written), "".join(spec.ends) + "".join(one.open for one in spec.thoughts))
    if key == "generic_none":
        return
    again = write_calls(detection.format, [("get_forecast", '{"city": "Lyon", "days": 3}')])
    assert detection.how == "rendered call"
    assert "".join(again.split()) == "".join(written.split())
