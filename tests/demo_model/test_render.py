"""What training reads is, to the byte and to the token, what the chat templates write."""

import json
from functools import cache
from pathlib import Path

import jinja2
import pytest
from demo_model.dialogues import document
from demo_model.render import render_prefix, render_turns
from demo_model.rows import encode
from demo_model.split import Source
from tokenizers import Tokenizer

DEMO = Path(__file__).resolve().parents[2] / "node/demo"


@cache
def template(style: str) -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string((DEMO / f"templates/{style}.jinja").read_text())


def documents(count, held=False):
    r = Source(11, held=held)
    return [document(r) for _ in range(count)]


def whole(doc, turns):
    return ([{"role": "system", "content": doc.system}] if doc.system else []) + turns


@pytest.mark.parametrize("held", [False, True])
def test_the_generator_writes_what_the_templates_render(held):
    compared = 0
    for doc in documents(60, held):
        for turns in doc.branches:
            ours = render_prefix(doc.style, doc.schemas, doc.system) + "".join(
                t for t, _ in render_turns(doc.style, len(doc.schemas), turns)
            )
            assert ours == template(doc.style).render(
                messages=whole(doc, turns), tools=doc.schemas or None, add_generation_prompt=False
            )
            compared += 1
    assert compared > 100


def test_before_each_answer_stands_the_templates_generation_prompt():
    for doc in documents(40):
        for turns in doc.branches:
            index = next(i for i, m in enumerate(turns) if m["role"] == "assistant")
            segments = render_turns(doc.style, len(doc.schemas), turns[: index + 1])
            said = next(i for i, (_, trained) in enumerate(segments) if trained)
            ours = render_prefix(doc.style, doc.schemas, doc.system) + "".join(t for t, _ in segments[:said])
            wanted = template(doc.style).render(
                messages=whole(doc, turns[:index]), tools=doc.schemas or None, add_generation_prompt=True
            )
            assert ours == wanted


def test_arguments_may_come_back_as_text():
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": '{"a":"é"}'}}],
    }
    for style in ("qwen", "llama"):
        ours = "".join(t for t, _ in render_turns(style, 1, [message]))
        rendered = template(style).render(messages=[message], tools=[{"name": "f"}])
        assert ours in rendered
        assert '{"a":"é"}' in ours


def test_tokens_of_the_pieces_are_the_tokens_of_the_whole():
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    for doc in documents(25):
        row = encode(tokenizer, Source(1), doc)
        for number, turns in enumerate(doc.branches, 1):
            first = row.turn.index(1 + sum(m["role"] == "assistant" for t in doc.branches[: number - 1] for m in t))
            mine = [i for i, b in enumerate(row.branch[:first]) if b in (0, number)]
            prompt = template(doc.style).render(
                messages=whole(doc, turns[:1]), tools=doc.schemas or None, add_generation_prompt=True
            )
            assert [row.ids[i] for i in mine] == tokenizer.encode(prompt, add_special_tokens=False).ids
            assert [row.positions[i] for i in mine] == list(range(len(mine)))


def test_what_is_trained_is_what_the_model_says_itself():
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    for doc in documents(10):
        row = encode(tokenizer, Source(1), doc)
        said = [m for turns in doc.branches for m in turns if m["role"] == "assistant"]
        assert max(row.turn) == len(said) == len(row.kinds)
        for number, message in enumerate(said, 1):
            text = tokenizer.decode(
                [i for i, t in zip(row.ids, row.turn, strict=True) if t == number], skip_special_tokens=False
            )
            assert text.endswith(("<|im_end|>", "<|eot_id|>", "<|eom_id|>"))
            if message["content"]:
                assert text.startswith(message["content"])
            else:
                assert all(
                    json.dumps(c["function"]["arguments"], ensure_ascii=False) in text for c in message["tool_calls"]
                )


@pytest.mark.parametrize(("style", "word"), [("qwen", "arguments"), ("llama", "parameters")])
@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        (None, "{}"),
        ({}, "{}"),
        ({"type": "object"}, "{}"),
        ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, '{"a": "string"}'),
        ({"properties": {"a": {"type": "integer"}}}, '{"a": integer?}'),
        ({"properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}, '{"a": "string"}'),
        ({"properties": {"a": {"anyOf": [{"type": "number"}, {"type": "null"}]}}}, '{"a": number?}'),
        ({"properties": {"a": {"type": "string", "enum": ["x", 'y"']}}}, '{"a": "x|y\\""?}'),
        ({"properties": {"a": {"enum": [1, 2]}}}, '{"a": 1|2?}'),
        ({"properties": {"a": {"type": "array", "items": {"type": "string"}}}}, '{"a": ["string"]?}'),
        ({"properties": {"items": {"type": "array"}}}, '{"items": array?}'),
        ({"properties": {"properties": {"type": "string"}}}, '{"properties": "string"?}'),
        (
            {"properties": {"o": {"type": "object", "properties": {"k": {"type": "boolean"}}, "required": ["k"]}}},
            '{"o": {"k": boolean}?}',
        ),
        ({"properties": {"any": True, "ref": {"$ref": "#/x"}}}, '{"any": any?, "ref": any?}'),
        ({"properties": {'q"': {"type": "string"}}, "required": ['q"']}, '{"q\\"": "string"}'),
    ],
)  # fmt: skip
def test_a_tool_is_shown_as_a_call_of_it(style, word, parameters, shown):
    tool = {"type": "function", "function": {"name": "f", "description": "Does it", "parameters": parameters}}
    text = template(style).render(messages=[{"role": "user", "content": "x"}], tools=[tool])
    assert f'\n{{"name": "f", "{word}": {shown}}} Does it' in text


def test_what_is_said_about_parameters_stands_behind_the_tool():
    properties = {"city": {"type": "string", "description": "Where"}, "day": {"type": "string"}, "any": True}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}
    text = template("qwen").render(messages=[{"role": "user", "content": "x"}], tools=[tool])
    assert '"any": any?}}; city: Where\n' in text
