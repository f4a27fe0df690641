"""OpenAI's own Python client against two nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from asking import HELLO, LLAMA, PARIS, QWEN, WEATHER, live_sequences, wait_until_free
from pydantic import BaseModel
from running_cluster import Cluster, Daemon
from scripted_nodes import ScriptedCluster, call

SAY_HELLO: dict[str, Any] = {"model": QWEN, "messages": [HELLO], "temperature": 0}
STORY: dict[str, Any] = {
    "model": QWEN,
    "messages": [{"role": "user", "content": "Once upon a time"}],
    "temperature": 0,
    "max_tokens": 24,
    "extra_body": {"ignore_eos": True},
}
TOOLS: dict[str, Any] = {"tools": [WEATHER], "temperature": 0, "max_tokens": 256}


@contextmanager
def client_of(cluster: Cluster) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{cluster.base}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def client(demo: Cluster) -> Iterator[openai.OpenAI]:
    with client_of(demo) as client:
        yield client


def streamed(client: openai.OpenAI, **asked: Any) -> list[Any]:
    with client.chat.completions.create(stream=True, **asked) as stream:
        return list(stream)


def test_models(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {QWEN, LLAMA}
    assert client.models.retrieve(QWEN).owned_by == "tandem"


def test_a_stream_adds_up_to_the_plain_answer(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(**SAY_HELLO)
    (choice,) = plain.choices
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert plain.usage
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens

    chunks = streamed(client, **SAY_HELLO, stream_options={"include_usage": True})
    *said, counts = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in said) == choice.message.content
    assert [chunk.choices[0].delta.role for chunk in said] == ["assistant"] + [None] * (len(said) - 1)
    assert [chunk.choices[0].finish_reason for chunk in said] == [None] * (len(said) - 1) + ["stop"]
    assert counts.choices == []
    assert counts.usage == plain.usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.choices for chunk in streamed(client, **SAY_HELLO))


@pytest.mark.parametrize("model", [QWEN, LLAMA])
def test_call_result_answer(client: openai.OpenAI, model: str) -> None:
    first = client.chat.completions.create(model=model, messages=[PARIS], **TOOLS).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.tool_calls
    (called,) = first.message.tool_calls
    assert called.type == "function"
    assert called.function.name == "get_weather"
    assert json.loads(called.function.arguments) == {"city": "Paris"}

    result = {"role": "tool", "tool_call_id": called.id, "content": "21 degrees"}
    messages: Any = [PARIS, first.message, result]
    second = client.chat.completions.create(model=model, messages=messages, **TOOLS).choices[0]
    assert second.finish_reason == "stop"
    assert not second.message.tool_calls
    assert "21" in (second.message.content or "")


class Weather(BaseModel):
    """Get the current weather for a city"""

    city: str


@pytest.mark.parametrize("stream", [False, True])
def test_parsed_tools_from_the_call_to_the_answer(client: openai.OpenAI, stream: bool) -> None:
    """The client's own helpers: a tool made of a class, and arguments that come back as its object."""
    asked: dict[str, Any] = {"model": QWEN, "temperature": 0, "max_tokens": 256}
    asked["tools"] = [openai.pydantic_function_tool(Weather, name="get_weather")]

    def ask(messages: Any) -> tuple[Any, list[Any]]:
        if not stream:
            return client.chat.completions.parse(messages=messages, **asked).choices[0], []
        with client.chat.completions.stream(messages=messages, **asked) as events:
            listed = list(events)
            return events.get_final_completion().choices[0], listed

    first, events = ask([PARIS])
    assert first.finish_reason == "tool_calls"
    (called,) = first.message.tool_calls
    assert called.function.parsed_arguments == Weather(city="Paris")
    pieces = [event.arguments_delta for event in events if event.type == "tool_calls.function.arguments.delta"]
    ends = [event.parsed_arguments for event in events if event.type == "tool_calls.function.arguments.done"]
    if stream:
        assert len(pieces) > 4
        assert "".join(pieces) == called.function.arguments
        assert ends == [Weather(city="Paris")]

    result = {"role": "tool", "tool_call_id": called.id, "content": "21 degrees"}
    second, _ = ask([PARIS, first.message.model_dump(exclude={"parsed"}, exclude_none=True), result])
    assert (second.finish_reason, second.message.tool_calls) == ("stop", None)
    assert "21" in second.message.content


@pytest.mark.parametrize("model", [QWEN, LLAMA])
def test_a_streamed_call_comes_in_pieces(client: openai.OpenAI, model: str) -> None:
    chunks = streamed(client, model=model, messages=[PARIS], **TOOLS)
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert {piece.index for piece in pieces} == {0}
    assert pieces[0].id.startswith("call_")
    assert (pieces[0].type, pieces[0].function.name) == ("function", "get_weather")
    assert not any(piece.id or piece.type or piece.function.name for piece in pieces[1:])
    assert json.loads("".join(piece.function.arguments or "" for piece in pieces)) == {"city": "Paris"}
    assert len(pieces) > 4
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_no_tool_is_called_when_none_may_be(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(model=QWEN, messages=[PARIS], tool_choice="none", **TOOLS).choices[0]
    assert not choice.message.tool_calls
    assert choice.finish_reason in ("stop", "length")


@pytest.mark.parametrize("chosen", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_that_must_be_called_is(client: openai.OpenAI, chosen: Any) -> None:
    """Though nothing asks for it; the reason to end is the same as if the model had chosen."""
    asked: dict[str, Any] = {"model": QWEN, "messages": [HELLO], "tool_choice": chosen, **TOOLS}
    plain = client.chat.completions.create(**asked).choices[0]
    assert [made.function.name for made in plain.message.tool_calls] == ["get_weather"]
    assert plain.finish_reason == "tool_calls"
    assert streamed(client, **asked)[-1].choices[0].finish_reason == "tool_calls"


def test_two_calls_in_one_turn(scripted: ScriptedCluster) -> None:
    words = "Looking at both."
    calls = [call("get_weather", city="Paris"), call("get_weather", city="Oslo")]
    scripted.say(("Paris and Oslo", "\n".join([words, *calls])))
    asked: dict[str, Any] = {"model": QWEN, "messages": [{"role": "user", "content": "Weather in Paris and Oslo?"}]}
    with client_of(scripted) as client:
        with client.chat.completions.stream(**asked, **TOOLS) as stream:
            kinds = [event.type for event in stream]
            message = stream.get_final_completion().choices[0].message
        single = client.chat.completions.create(**asked, **TOOLS, parallel_tool_calls=False).choices[0]
    assert kinds.count("tool_calls.function.arguments.done") == 2
    assert (message.content or "").strip() == words
    assert [json.loads(each.function.arguments) for each in message.tool_calls or []] == [
        {"city": "Paris"},
        {"city": "Oslo"},
    ]
    assert len({each.id for each in message.tool_calls or []}) == 2
    assert len(single.message.tool_calls or []) == 1
    assert single.finish_reason == "tool_calls"


def test_several_choices_and_seeds(client: openai.OpenAI) -> None:
    warm = {**STORY, "temperature": 1.5}

    def texts(**more: Any) -> list[str | None]:
        done = client.chat.completions.create(**warm, **more)
        assert [choice.index for choice in done.choices] == list(range(more.get("n", 1)))
        assert done.usage
        assert done.usage.completion_tokens == 24 * len(done.choices)
        return [choice.message.content for choice in done.choices]

    three = texts(n=3, seed=7)
    assert len(set(three)) == 3
    assert texts(n=3, seed=7) == three
    assert texts(seed=7) == three[:1]
    assert texts(seed=8) != three[:1]


def test_a_stop_string_ends_the_text_before_itself(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**STORY).choices[0].message.content or ""
    stop = whole[len(whole) // 2 :][:3]
    choice = client.chat.completions.create(**STORY, stop=stop).choices[0]
    assert choice.message.content == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


def test_a_limit_ends_the_text(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(**{**STORY, "max_tokens": 3})
    assert done.choices[0].finish_reason == "length"
    assert done.usage
    assert done.usage.completion_tokens == 3


def test_log_probabilities(client: openai.OpenAI) -> None:
    asked = {**SAY_HELLO, "logprobs": True, "top_logprobs": 3}
    done = client.chat.completions.create(**asked)
    listed = done.choices[0].logprobs
    assert listed
    assert listed.content
    assert done.usage
    assert len(listed.content) == done.usage.completion_tokens
    for each in listed.content:
        assert each.token == each.top_logprobs[0].token
        assert 0 >= each.logprob == each.top_logprobs[0].logprob > each.top_logprobs[2].logprob
    text = b"".join(bytes(each.bytes or []) for each in listed.content).decode()
    assert text.startswith(done.choices[0].message.content or "nothing")

    pieces = [chunk.choices[0].logprobs for chunk in streamed(client, **asked) if chunk.choices[0].logprobs]
    assert [each for piece in pieces for each in piece.content or []] == listed.content


def test_plain_completions(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": QWEN, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    text = client.completions.create(**asked).choices[0].text
    with client.completions.create(**asked, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == text


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(**{**SAY_HELLO, "model": "nobody"})
    assert unknown.value.code == "model_not_found"
    assert QWEN in unknown.value.message

    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(**{**SAY_HELLO, "temperature": 9})
    assert bad.value.param == "temperature"

    member = {"type": "integer", "minimum": 3, "maximum": 2}
    nothing = {"type": "object", "properties": {"a": member}, "required": ["a"]}
    shape = {"type": "json_schema", "json_schema": {"name": "nothing", "schema": nothing}}
    for stream in (False, True):
        # Before the first byte of a stream, too: it is the status that says so, and a body that is no event.
        with pytest.raises(openai.BadRequestError) as impossible:
            client.chat.completions.create(**SAY_HELLO, response_format=shape, stream=stream)
        assert impossible.value.param == "response_format"
        assert impossible.value.response.headers["content-type"].startswith("application/json")
    assert client.chat.completions.create(**SAY_HELLO).choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit(client: openai.OpenAI, stream: bool) -> None:
    long: Any = [{"role": "user", "content": "quiet river " * 40_000}]
    with pytest.raises(openai.BadRequestError) as overflow:
        client.chat.completions.create(model=QWEN, messages=long, stream=stream)
    assert overflow.value.code == "context_length_exceeded"
    context = client.models.retrieve(QWEN).model_extra or {}
    assert f"context length is {context['context_length']} tokens" in overflow.value.message


def test_keys(demo: Cluster) -> None:
    arguments = ["-m", "tandem.cli", "gateway", "--listen", "127.0.0.1:0", "--cluster", demo.name, "--no-mdns"]
    arguments += ["--node", demo.nodes[0].address, "--api-key", "right"]
    gateway = Daemon("locked-gateway", arguments, demo.folder)
    gateway.start()
    try:
        base = f"http://{gateway.address}/v1"
        with openai.OpenAI(base_url=base, api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                client.chat.completions.create(**SAY_HELLO)
            assert refused.value.code == "invalid_api_key"
            assert client.with_options(api_key="right").chat.completions.create(**SAY_HELLO).choices[0].message.content
    finally:
        assert gateway.stop() == 0


@pytest.mark.parametrize("seen", [1, 8])
def test_closing_a_stream_frees_the_sequence_on_every_node(client: openai.OpenAI, demo: Cluster, seen: int) -> None:
    """Whether the client leaves before the first token or in the middle of the answer."""
    with client.chat.completions.create(**{**STORY, "max_tokens": 4000}, stream=True) as stream:
        for _, _ in zip(range(seen), stream, strict=False):
            pass
        if seen > 1:
            assert live_sequences(demo) == [1, 1]
    wait_until_free(demo)
