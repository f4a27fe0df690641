"""What coding agents rely on beyond one call: two requests at once, a long first turn, thoughts, counts of tokens."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from asking import HELLO, PARIS, QWEN, WEATHER, wait_until_free
from format_models import make_folder
from scripted_nodes import ScriptedCluster, call

SECONDS = 60.0
SMALLEST = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 1, "num_key_value_heads": 1}
"""Fifteen thousand tokens are many for a processor."""
TITLE = "Of herons and reeds. " * 40


def client_of(cluster: ScriptedCluster) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{cluster.base}/v1", api_key="none", max_retries=0, timeout=SECONDS)


@pytest.mark.parametrize("stream", [False, True])
def test_a_thought_that_the_limit_cuts_is_a_thought(scripted: ScriptedCluster, stream: bool) -> None:
    """No part of it is the answer, which has not begun."""
    thought = "First I count the herons, then the reeds, and then I say what I have seen."
    scripted.say(("Hello!", f"<think>\n{thought}\n</think>\n\nSeven."))
    asked: dict[str, Any] = {"model": QWEN, "messages": [HELLO], "temperature": 0}

    def ask(**more: Any) -> tuple[str, str, str | None]:
        with client_of(scripted) as client:
            if not stream:
                choice = client.chat.completions.create(**asked, **more).choices[0]
                reasoning = (choice.message.model_extra or {}).get("reasoning_content")
                return reasoning or "", choice.message.content or "", choice.finish_reason
            with client.chat.completions.create(**asked, **more, stream=True) as chunks:
                choices = [chunk.choices[0] for chunk in chunks]
        reasoning = "".join((one.delta.model_extra or {}).get("reasoning_content") or "" for one in choices)
        return reasoning, "".join(one.delta.content or "" for one in choices), choices[-1].finish_reason

    assert ask() == (thought, "Seven.", "stop")
    reasoning, content, reason = ask(max_tokens=14)
    assert (content, reason) == ("", "length")
    assert reasoning
    assert thought.startswith(reasoning)
    assert thought != reasoning


@pytest.mark.parametrize("count", [1, 2])
def test_tokens_are_counted_behind_streamed_calls(scripted: ScriptedCluster, count: int) -> None:
    calls = "\n".join(call("get_weather", city=city) for city in ("Paris", "Oslo")[:count])
    scripted.say(("weather in Paris", calls))
    asked: dict[str, Any] = {"model": QWEN, "messages": [PARIS], "tools": [WEATHER], "temperature": 0}
    with client_of(scripted) as client:
        plain = client.chat.completions.create(**asked)
        with client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
            *chunks, counts = list(stream)
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert sorted({piece.index for piece in pieces}) == list(range(count))
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["tool_calls"]
    assert all(chunk.usage is None for chunk in chunks)
    assert counts.choices == []
    assert counts.usage == plain.usage
    assert counts.usage is not None
    assert counts.usage.completion_tokens > 10 * count


def test_a_call_without_arguments_has_an_empty_object(scripted: ScriptedCluster) -> None:
    """An empty text is no JSON, and some clients take it for an error."""
    scripted.say(("Hello!", call("ping")))
    ping = {"type": "function", "function": {"name": "ping"}}
    asked: dict[str, Any] = {"model": QWEN, "messages": [HELLO], "tools": [ping], "temperature": 0}
    with client_of(scripted) as client:
        (whole,) = client.chat.completions.create(**asked).choices[0].message.tool_calls or []
        with client.chat.completions.create(**asked, stream=True) as chunks:
            calls = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or []]
    assert whole.type == "function"
    assert whole.function.arguments == "{}"
    assert "".join((one.function and one.function.arguments) or "" for one in calls) == "{}"


def test_a_title_does_not_hold_up_the_task(scripted: ScriptedCluster) -> None:
    """An agent's first turn opens two requests at once; the one with tools is done while the other still speaks."""
    title = "Make a title for: Weather in Paris"
    scripted.say(("weather in Paris", call("get_weather", city="Paris")), (title, TITLE))
    speaks, ended, problems = threading.Event(), threading.Event(), list[BaseException]()
    said: list[str] = []

    def make_title() -> None:
        messages: Any = [{"role": "user", "content": title}]
        try:
            with (
                client_of(scripted) as client,
                client.chat.completions.create(model=QWEN, messages=messages, temperature=0, stream=True) as stream,
            ):
                for chunk in stream:
                    said.append(chunk.choices[0].delta.content or "")
                    if len(said) > 3:
                        speaks.set()
        except BaseException as problem:  # noqa: BLE001 - told below, in the test's own thread
            problems.append(problem)
        finally:
            speaks.set()
            ended.set()

    thread = threading.Thread(target=make_title, daemon=True)
    thread.start()
    assert speaks.wait(SECONDS)
    with (
        client_of(scripted) as client,
        client.chat.completions.stream(model=QWEN, messages=[PARIS], tools=[WEATHER], temperature=0) as stream,
    ):
        (called,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert json.loads(called.function.arguments) == {"city": "Paris"}
    assert not ended.is_set()
    thread.join(SECONDS)
    assert not problems
    assert "".join(said) == TITLE
    wait_until_free(scripted)


def test_a_first_turn_of_an_agents_size(scripted: ScriptedCluster, tmp_path: Path) -> None:
    """Thirty kilobytes of instructions and tools, most of them never used, as agents send before anything is said."""
    make_folder(tmp_path / "model", "hermes", marked=True, **SMALLEST)
    rules = "".join(
        f"{number}. Read {number} files before you write one, and say which of the {number} you have read.\n"
        for number in range(1, 201)
    )
    asked: dict[str, Any] = {
        "model": "hermes",
        "messages": [{"role": "system", "content": rules}, PARIS],
        "tools": [WEATHER, *(tool(f"tool_{number}") for number in range(24))],
        "temperature": 0,
    }
    assert len(json.dumps(asked)) > 31_000
    scripted.load(str(tmp_path / "model"))
    scripted.say(
        ("weather in Paris", call("get_weather", city="Paris")),
        (["weather in Paris", "21 degrees"], "It is 21 degrees in Paris."),
        thoughts=[{"open": "<think>", "close": "</think>", "begin": "<think>\n", "end": "\n</think>\n\n"}],
        tokenizer=tmp_path / "model" / "tokenizer.json",
    )
    with client_of(scripted) as client:
        with client.chat.completions.stream(**asked) as stream:
            first = stream.get_final_completion().choices[0]
        (called,) = first.message.tool_calls or []
        assert (first.finish_reason, called.function.name) == ("tool_calls", "get_weather")
        result = {"role": "tool", "tool_call_id": called.id, "content": "21 degrees"}
        asked["messages"] += [first.message.model_dump(exclude={"parsed"}, exclude_none=True), result]
        with client.chat.completions.stream(**asked) as stream:
            second = stream.get_final_completion().choices[0]
    assert (second.finish_reason, second.message.content) == ("stop", "It is 21 degrees in Paris.")
    scripted.unload("hermes")
    wait_until_free(scripted)


def tool(name: str) -> Any:
    """A tool with the schema of one that edits files."""
    path = {"type": "string", "description": "The absolute path of the file, which must exist and not be a folder"}
    edit = {
        "type": "object",
        "properties": {"old": {"type": "string", "minLength": 1}, "new": {"type": "string"}},
        "required": ["old", "new"],
        "additionalProperties": False,
    }
    properties = {"path": path, "edits": {"type": "array", "items": edit}, "mode": {"enum": ["one", "all"]}}
    schema = {"type": "object", "properties": properties, "required": ["path", "edits"]}
    description = f"Edits a file in the way of {name}. Use it for one file at a time, and only after reading the file."
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
