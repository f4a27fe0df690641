"""The rules that decide wherever formats leave a choice, each in every format."""

import ast
import json
from pathlib import Path

import pytest

from parsers import FORMATS, Parser, ToolSpec, get_format
from parsers.events import ArgumentsDelta
from parsers.writing import write_calls
from tests.parsers.reading import read

EVERY = pytest.mark.parametrize("key", sorted(FORMATS))
FILES = sorted((Path(__file__).parents[2] / "parsers" / "formats").glob("[a-z]*.py"))
TEXT_WITHOUT_DECLARATION = {"dots", "k2_horizon", "minicpm5"}
"""Formats in which a name that no tool has is content, as the issue of tool calling decides."""


@EVERY
def test_an_undeclared_name_is_a_call_with_a_warning(key: str) -> None:
    spec = get_format(key)
    for calls in ([("strange", '{"text": "a"}')], [("strange", '{"text": "a"}'), ("ping", "{}")]):
        answer = read(spec, [write_calls(spec, calls)])
        if key in TEXT_WITHOUT_DECLARATION:
            assert "strange" in answer.content and "strange" not in dict(answer.calls)
        else:
            assert [name for name, _ in answer.calls] == [name for name, _ in calls] and answer.content == ""
            assert any("'strange' is not declared" in warning for warning in answer.warnings)


@EVERY
def test_the_limit_in_the_second_call_keeps_the_first(key: str) -> None:
    spec = get_format(key)
    text = write_calls(spec, [("ping", "{}"), ("update", '{"text": "abcdefgh"}')])
    answer = read(spec, [text[: text.index("abcdefgh") + 4]], end="length")
    assert [name for name, _ in answer.calls] == ["ping", "update"]
    assert (answer.calls[0], answer.finish, answer.content.strip()) == (("ping", "{}"), "length", "")


@EVERY
def test_a_call_in_a_code_fence_is_code(key: str) -> None:
    spec = get_format(key)
    text = f"Like this:\n```\n{write_calls(spec, [('ping', '{}')])}\n```\nThat is how."
    answer = read(spec, [text])
    assert bool(answer.calls) == spec.fenced
    if not spec.fenced:
        assert answer.content == text


@EVERY
def test_texts_in_an_object_come_as_they_are_generated(key: str) -> None:
    spec = get_format(key)
    before, _ = write_calls(spec, [("update", json.dumps({"config": {"a": {"b": "@@"}}}))]).split("@@")
    tools = [ToolSpec("update", '{"properties": {"config": {"type": "object"}}}')]
    parser, words = Parser(spec, tools), [f"word{number} " for number in range(60)]
    parser.feed(before)
    told = [any(isinstance(event, ArgumentsDelta) for event in parser.feed(word)) for word in words]
    assert sum(told) >= 0.9 * len(words)


def test_a_message_to_the_user_may_look_like_one_to_a_tool() -> None:
    """Only its header says to whom it goes."""
    answer = read(get_format("functionary_v32"), [">>>all\nTotal\n{}"])
    assert (answer.content, answer.calls) == ("Total\n{}", [])


@pytest.mark.parametrize("key", ["hy_v3", "glm45", "kimi_k3"])
def test_a_key_without_a_value_is_text(key: str) -> None:
    spec = get_format(key)
    text = write_calls(spec, [("update", '{"strange": "@@"}')])
    answer = read(spec, [text[: text.index("@@")].removesuffix('"').rpartition("<")[0]])
    assert [name for name, _ in answer.calls] == ["update"]
    assert "strange" in answer.content + answer.calls[0][1]


@pytest.mark.parametrize("arguments", ["5", "[1]", '"plain"'])
def test_arguments_that_are_no_object_stay_with_a_warning(arguments: str) -> None:
    answer = read(get_format("hermes"), [f'<tool_call>{{"name": "ping", "arguments": {arguments}}}</tool_call>'])
    assert answer.calls == [("ping", arguments)] and answer.warnings == ["the arguments are no object"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_a_format_is_data(file: Path) -> None:
    """At most 80 lines, no loop, no regular expression."""
    source = file.read_text("utf-8")
    assert len(source.splitlines()) <= 80
    loops = (ast.For, ast.While, ast.AsyncFor)
    for node in ast.walk(ast.parse(source)):
        assert not isinstance(node, loops)
        assert not (isinstance(node, ast.Import) and "re" in [name.name for name in node.names])
