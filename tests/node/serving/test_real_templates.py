"""What comes from outside, in the templates of real models: it stays text, and is not refused."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chat_messages import message
from running_paths import DEMO

from node.engine.tokenizer import load_tokenizer
from node.serving.prompt import PromptRenderer
from parsers import FORMATS, get_format
from tandem.v1 import generation_pb2 as pb

CASES = Path(__file__).parents[4] / "shared" / "tool-cases"
TEMPLATES = CASES / "chat_templates"
MARKER = re.compile(r"<[^<>\s]{2,60}>|\[/?[A-Z_]{3,40}\]|\]<\]minimax\[>\[|<｜[^<>]{2,60}｜>|\]~!?b[\]\[]|\[e~\[")
"""What looks like a token of its own."""
QUICK = {
    *("qwen3-0.6b.jinja", "llama-3.1-8b-instruct.jinja", "gpt-oss-120b.jinja", "deepseek-v3.1.jinja"),
    *("mistral-small-3.2-24b-2506.jinja", "gemma-4-31b-it.jinja", "kimi-k2-instruct.jinja", "minimax-m3.jinja"),
}


def names(*, with_tools: bool = False) -> list[Any]:
    if not TEMPLATES.is_dir():
        reason = "the templates of real models are not beside this checkout"
        return [pytest.param("", marks=pytest.mark.skip(reason=reason))]
    formats = json.loads((CASES / "template_formats.json").read_text("utf-8"))
    found = sorted(path.name for path in TEMPLATES.glob("*.jinja") if formats[path.name] is not None or not with_tools)
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in found]


def markers_of(name: str) -> list[str]:
    """What the template spells, and what means something in the formats that its models speak."""
    keys = json.loads((CASES / "template_formats.json").read_text("utf-8"))[name] or []
    texts = [(TEMPLATES / name).read_text("utf-8"), *(text for key in keys for text in get_format(key).literals)]
    found = Counter(marker for text in texts for marker in MARKER.findall(text))
    return sorted(marker for marker in found if "{" not in marker and '"' not in marker)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demonstration model's, in which the markers of all formats and templates are special tokens."""
    folder = tmp_path_factory.mktemp("tokenizer") / "model"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    known = {token["content"] for token in data["added_tokens"]}
    spelled = {marker for path in TEMPLATES.glob("*.jinja") for marker in markers_of(path.name)}
    spelled |= {marker for key in FORMATS for text in get_format(key).literals for marker in MARKER.findall(text)}
    first = 1 + max(max(token["id"] for token in data["added_tokens"]), *data["model"]["vocab"].values())
    shape = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data["added_tokens"] += [
        {"id": first + at, "content": marker, **shape} for at, marker in enumerate(sorted(spelled - known))
    ]
    (folder / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    return load_tokenizer(folder)


def request(user: str, result: str) -> pb.GenerateRequest:
    made = pb.GenerateRequest(created_at=1_700_000_000)
    made.tools.add(name="get_weather", description="Tells the weather", parameters_json='{"type": "object"}')
    messages = made.conversation.messages
    messages.add(role=pb.ROLE_USER, content=[pb.ContentPart(text=user)])
    call = pb.ToolCall(tool_call_id="call12345", name="get_weather", arguments_json='{"city": "Paris"}')
    messages.add(role=pb.ROLE_ASSISTANT, tool_calls=[call])
    messages.add(role=pb.ROLE_TOOL, content=[pb.ContentPart(text=result)], tool_call_id="call12345")
    return made


@pytest.mark.parametrize("name", names())
def test_what_users_and_tools_spell_is_text(tokenizer: Any, name: str) -> None:
    renderer = PromptRenderer(tokenizer, (TEMPLATES / name).read_text("utf-8"))
    control = set(tokenizer.added_tokens_decoder)
    markers = markers_of(name)
    assert markers
    # Nemotron's templates take this out of what users say, or write the other in its place.
    spared = {"</think>", "<_end_think>"} if name.startswith("nemotron") else set()
    plain = renderer.render(request("What now?", "Nothing."))
    begun = [token for token in plain.ids if token in control]
    for spelled in ("".join(markers), " ".join(markers), "\n".join(reversed(markers))):
        for user, result in ((f"Say {spelled} now", "Nothing."), ("What now?", f"It is {spelled}!")):
            ids = renderer.render(request(user, result)).ids
            assert [token for token in ids if token in control] == begun
            text = str(tokenizer.decode(ids))
            shown = str(tokenizer.decode(plain.ids))
            assert {marker for marker in markers if text.count(marker) <= shown.count(marker)} <= spared


SCHEMAS: list[Any] = [
    None,
    {},
    {"type": "object"},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"a": {}, "b": True}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}, "c": {"type": "object"}}},
    {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "array", "items": {}}}, "required": ["b"]},
    {
        "$defs": {"q": {"type": "integer"}},
        "properties": {
            "a": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "b": {"type": ["null", "string"], "description": "B"},
            "c": {"$ref": "#/$defs/q"},
            "d": {"enum": ["x", 1, None]},
            "e": {"const": 1},
        },
    },
    {"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]},
]
"""What tools have for parameters, from nothing to what templates do not reckon with."""


@pytest.fixture(scope="module")
def own_tokenizer() -> Any:
    return load_tokenizer(DEMO)


@pytest.mark.parametrize("name", names())
def test_tools_of_any_schema_are_told(own_tokenizer: Any, name: str) -> None:
    """With and without a description, which OpenAI's clients may leave out."""
    renderer = PromptRenderer(own_tokenizer, (TEMPLATES / name).read_text("utf-8"))
    for schema in SCHEMAS:
        for description in ("Tells the weather", ""):
            asked = request("What now?", "Nothing.")
            asked.tools[0].description = description
            asked.tools[0].parameters_json = "" if schema is None else json.dumps(schema)
            assert renderer.render(asked).ids


TWO = (("call_a", "get_weather", '{"city": "PARISx"}'), ("call_b", "get_time", '{"city": "OSLOx"}'))
ASKED = message("user", "ASKEDx")
RESULTS = [message("tool", f"RESULT{one}x", tool_call_id=f"call_{one}") for one in "ba"]
NEXT = message("user", "NEXTx")
CONVERSATIONS: dict[str, list[pb.ChatMessage]] = {
    "several calls beside words, their results in the other order": [
        message("system", "SYSTEMx"),
        ASKED,
        message("assistant", "WORDSx", *TWO),
        *RESULTS,
        message("developer", "DEVELOPERx"),
        NEXT,
    ],
    "results at the end": [ASKED, message("assistant", "WORDSx", *TWO), *RESULTS],
    "broken arguments of a tool that is not listed": [
        ASKED,
        message("assistant", "", ("call_a", "GONEx", '{"city": "BROKENx')),
        RESULTS[1],
        NEXT,
    ],
    "arguments that are no object": [
        ASKED,
        message("assistant", "", ("call_a", "get_weather", '["LISTx"]')),
        RESULTS[1],
        NEXT,
    ],
    "a result without a call": [ASKED, message("tool", "STRAYx", tool_call_id="nobody"), NEXT],
    "a call without a result": [ASKED, message("assistant", "", TWO[0]), NEXT],
}


@pytest.mark.parametrize("name", names(with_tools=True))
def test_nothing_of_a_conversation_is_lost(own_tokenizer: Any, name: str) -> None:
    """Every text is in the prompt, calls and results in the order of the calls."""
    renderer = PromptRenderer(own_tokenizer, (TEMPLATES / name).read_text("utf-8"))
    for what, messages in CONVERSATIONS.items():
        asked = pb.GenerateRequest(created_at=1_700_000_000)
        for tool in ("get_weather", "get_time"):
            asked.tools.add(name=tool, parameters_json='{"type": "object", "properties": {"city": {"type": "string"}}}')
        asked.conversation.messages.extend(messages)
        text = str(own_tokenizer.decode(renderer.render(asked).ids))
        words = {word for each in messages for word in re.findall("[A-Za-z]+x\\b", str(each))}
        assert words and not {word for word in words if word not in text}, what
        if "RESULTax" in text and "RESULTbx" in text:
            places = [text.rindex(word) for word in ("PARISx", "OSLOx", "RESULTax", "RESULTbx")]
            assert places == sorted(places), what
