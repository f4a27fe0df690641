"""Every property of a request: in exactly one list, and honoured where the list says so."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import Gateway, chat_body
from scripted_cluster import Event, ScriptedNode, call, content, finished, logprobs_of

from gateway.openai.properties import CHAT, COMPLETIONS, Properties
from tandem.v1 import generation_pb2

OPENAPI = Path(__file__).parents[3] / "shared" / "clients" / "openapi-min.json"

# The properties of OpenAI's description 2.3.0.
DESCRIBED = {
    "CreateChatCompletionRequest": {
        "metadata", "top_logprobs", "temperature", "top_p", "user", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "prompt_cache_options", "messages", "model", "service_tier", "modalities",
        "verbosity", "reasoning_effort", "max_completion_tokens", "frequency_penalty", "presence_penalty",
        "web_search_options", "response_format", "audio", "store", "moderation", "stream", "stop", "logit_bias",
        "logprobs", "max_tokens", "n", "prediction", "seed", "stream_options", "tools", "tool_choice",
        "parallel_tool_calls", "function_call", "functions",
    },
    "CreateCompletionRequest": {
        "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
        "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
    },
}  # fmt: skip
LISTS = {"CreateChatCompletionRequest": CHAT, "CreateCompletionRequest": COMPLETIONS}


def described_by(schemas: dict[str, Any], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [schemas[name]]
    while waiting:
        schema = waiting.pop()
        found |= set(schema.get("properties", {}))
        waiting += schema.get("allOf", [])
        if "$ref" in schema:
            waiting.append(schemas[schema["$ref"].rsplit("/", 1)[-1]])
    return found


@pytest.mark.parametrize("name", DESCRIBED)
def test_each_described_property_is_in_one_list(name: str) -> None:
    lists = LISTS[name]
    members = [*lists.honoured, *lists.refused, *lists.ignored]
    assert len(members) == len(set(members))
    assert set(members) == DESCRIBED[name]
    assert not lists.extensions & DESCRIBED[name]


@pytest.mark.parametrize("name", DESCRIBED)
def test_the_copy_is_the_published_description(name: str) -> None:
    if not OPENAPI.exists():
        pytest.skip("OpenAI's API description is not here")
    schemas = json.loads(OPENAPI.read_text())["components"]["schemas"]
    assert described_by(schemas, name) == DESCRIBED[name]


@dataclasses.dataclass
class Outcome:
    """What became of a request: the answer or the chunks, and what reached the head."""

    status: int
    answer: Any
    requests: list[generation_pb2.GenerateRequest]

    @property
    def request(self) -> generation_pb2.GenerateRequest:
        return self.requests[0]

    @property
    def sampling(self) -> generation_pb2.SamplingParams:
        return self.request.sampling


@dataclasses.dataclass
class Case:
    """A property that is honoured: the body with it, and what holds then and not without it."""

    name: str
    value: Any
    holds: Callable[[Outcome], bool]
    beside: dict[str, Any] = dataclasses.field(default_factory=dict)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}


def close(got: float, wanted: float) -> bool:
    return abs(got - wanted) < 1e-6


SHARED = [
    Case("temperature", 0.5, lambda o: o.sampling.temperature == 0.5),
    Case("temperature", 0, lambda o: o.sampling.HasField("temperature") and o.sampling.temperature == 0),
    Case("top_p", 0.25, lambda o: o.sampling.top_p == 0.25),
    Case("top_k", 20, lambda o: o.sampling.top_k == 20),
    Case("top_k", -1, lambda o: o.sampling.HasField("top_k") and o.sampling.top_k == 0),
    Case("min_p", 0.1, lambda o: close(o.sampling.min_p, 0.1)),
    Case("repetition_penalty", 1.1, lambda o: close(o.sampling.repetition_penalty, 1.1)),
    Case("frequency_penalty", -0.5, lambda o: o.sampling.frequency_penalty == -0.5),
    Case("presence_penalty", 1.5, lambda o: o.sampling.presence_penalty == 1.5),
    Case("logit_bias", {"7": -100, "8": 2.5}, lambda o: dict(o.sampling.logit_bias) == {7: -100, 8: 2.5}),
    Case("seed", 7, lambda o: o.sampling.seed == 7),
    Case("seed", -1, lambda o: o.sampling.seed == 2**64 - 1),
    Case("stop", "END", lambda o: list(o.request.stop) == ["END"]),
    Case("stop", ["a", "b"], lambda o: list(o.request.stop) == ["a", "b"]),
    Case("max_tokens", 5, lambda o: o.request.HasField("max_tokens") and o.request.max_tokens == 5),
    Case("ignore_eos", True, lambda o: o.request.ignore_eos),
    Case("stream", True, lambda o: isinstance(o.answer, list)),
    Case(
        "stream_options",
        {"include_usage": True},
        lambda o: o.answer[-1]["choices"] == [] and o.answer[-1]["usage"]["total_tokens"] == 18,
        {"stream": True},
    ),
    Case("n", 2, lambda o: [choice["index"] for choice in o.answer["choices"]] == [0, 1]),
    Case("model", "org/model-4bit", lambda o: o.request.model == o.answer["model"] == "org/model-4bit"),
]
CHAT_CASES = [
    *SHARED,
    Case(
        "messages",
        [{"role": "user", "content": "other"}],
        lambda o: o.request.conversation.messages[0].content[0].text == "other",
    ),
    Case("max_completion_tokens", 4, lambda o: o.request.max_tokens == 4, {"max_tokens": 9}),
    Case("logprobs", True, lambda o: o.answer["choices"][0]["logprobs"]["content"][0]["token"] == "Hi"),
    Case(
        "top_logprobs",
        2,
        lambda o: (
            o.sampling.top_logprobs == 2
            and [item["token"] for item in o.answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]
            == ["Yo", "Hi"]
        ),
        {"logprobs": True},
    ),
    Case("tools", [TOOL], lambda o: [tool.name for tool in o.request.tools] == ["f"]),
    Case(
        "tool_choice",
        "none",
        lambda o: o.request.tool_choice.mode == generation_pb2.TOOL_CHOICE_MODE_NONE,
        {"tools": [TOOL]},
    ),
    Case(
        "tool_choice",
        "required",
        lambda o: o.request.tool_choice.mode == generation_pb2.TOOL_CHOICE_MODE_REQUIRED,
        {"tools": [TOOL]},
    ),
    Case(
        "tool_choice",
        {"type": "function", "function": {"name": "f"}},
        lambda o: list(o.request.tool_choice.names) == ["f"],
        {"tools": [TOOL]},
    ),
    Case(
        "tool_choice",
        "auto",
        lambda o: o.request.tool_choice.mode == generation_pb2.TOOL_CHOICE_MODE_AUTO,
        {"tools": [TOOL]},
    ),
    Case(
        "parallel_tool_calls",
        False,
        lambda o: o.request.HasField("parallel_tool_calls") and not o.request.parallel_tool_calls,
        {"tools": [TOOL]},
    ),
    Case(
        "functions",
        [FUNCTION],
        lambda o: (
            o.request.tools[0].name == "f"
            and o.answer["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}
            and o.answer["choices"][0]["finish_reason"] == "function_call"
        ),
    ),
    Case(
        "function_call",
        "none",
        lambda o: o.request.tool_choice.mode == generation_pb2.TOOL_CHOICE_MODE_NONE,
        {"functions": [FUNCTION]},
    ),
    Case("response_format", {"type": "json_object"}, lambda o: o.request.response_format.HasField("json_object")),
    Case(
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        lambda o: o.request.response_format.json_schema == '{"type": "object"}',
    ),
    Case("modalities", ["text", "audio"], lambda o: o.status == 400),
    Case(
        "reasoning_effort",
        "low",
        lambda o: json.loads(o.request.template_kwargs_json) == {"enable_thinking": True, "reasoning_effort": "low"},
    ),
    Case("reasoning_effort", "none", lambda o: json.loads(o.request.template_kwargs_json)["enable_thinking"] is False),
    Case(
        "reasoning",
        {"effort": "high"},
        lambda o: json.loads(o.request.template_kwargs_json)["reasoning_effort"] == "high",
    ),
    Case("enable_thinking", False, lambda o: json.loads(o.request.template_kwargs_json) == {"enable_thinking": False}),
    Case(
        "chat_template_kwargs",
        {"enable_thinking": True, "x": [1]},
        lambda o: json.loads(o.request.template_kwargs_json) == {"enable_thinking": True, "x": [1]},
        {"enable_thinking": False},
    ),
]
TEXT_CASES = [
    *SHARED,
    Case("prompt", "Once", lambda o: o.request.text == "Once"),
    Case("prompt", [1, 2, 3], lambda o: list(o.request.token_ids.ids) == [1, 2, 3]),
    Case("prompt", ["a", "b"], lambda o: sorted(request.text for request in o.requests) == ["a", "b"]),
    Case("prompt", [[1], [2, 3]], lambda o: sorted(list(r.token_ids.ids) for r in o.requests) == [[1], [2, 3]]),
    Case("best_of", 3, lambda o: len(o.requests) == 3 and len(o.answer["choices"]) == 1),
    Case("echo", True, lambda o: o.answer["choices"][0]["text"] == "Say Hi"),
    Case(
        "logprobs",
        1,
        lambda o: (
            o.sampling.logprobs and o.answer["choices"][0]["logprobs"]["top_logprobs"] == [{"Yo": -0.5, "Hi": -1}]
        ),
    ),
]


async def answer_all(request: generation_pb2.GenerateRequest):
    yield [Event(accepted=generation_pb2.Accepted(prompt_tokens=11))]
    if request.tools:
        yield call(0, "f", "{}")
    logprobs = [logprobs_of(1, (1, b"Hi", -1.0), (2, b"Yo", -0.5))] if request.sampling.logprobs else []
    yield [content("Hi", 1, logprobs=logprobs), finished()]


async def outcome(gateway: Gateway, head: ScriptedNode, path: str, body: dict[str, Any]) -> Outcome:
    head.requests.clear()
    if body.get("stream"):
        chunks = await gateway.events(path, body)
        return Outcome(200, chunks[:-1], list(head.requests))
    status, answer, _ = await gateway.post(path, body)
    return Outcome(status, answer, list(head.requests))


def holds(case: Case, got: Outcome) -> bool:
    try:
        return case.holds(got)
    except (LookupError, TypeError, ValueError):
        return False


async def check_cases(
    gateway: Gateway, head: ScriptedNode, path: str, plain: dict[str, Any], cases: Sequence[Case]
) -> None:
    head.script = answer_all
    for case in cases:
        body = {**plain, **case.beside}
        with_it = await outcome(gateway, head, path, {**body, case.name: case.value})
        assert holds(case, with_it), (case.name, case.value, with_it)
        without = await outcome(gateway, head, path, body)
        assert not holds(case, without), f"{case.name} makes no difference"


async def test_each_honoured_chat_property_makes_its_difference(gateway: Gateway, head: ScriptedNode) -> None:
    assert {case.name for case in CHAT_CASES} == CHAT.honoured | CHAT.extensions
    await check_cases(gateway, head, "/v1/chat/completions", chat_body(), CHAT_CASES)


async def test_each_honoured_text_property_makes_its_difference(gateway: Gateway, head: ScriptedNode) -> None:
    assert {case.name for case in TEXT_CASES} == COMPLETIONS.honoured | COMPLETIONS.extensions
    await check_cases(gateway, head, "/v1/completions", {"model": "demo", "prompt": "Say "}, TEXT_CASES)


@pytest.mark.parametrize(("path", "lists"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETIONS)])
async def test_what_is_refused_is_named_and_what_is_ignored_changes_nothing(
    gateway: Gateway, head: ScriptedNode, path: str, lists: Properties
) -> None:
    plain = {**chat_body(seed=1), "prompt": "x"}
    for name in lists.refused:
        status, answer, _ = await gateway.post(path, {**plain, name: {"voice": "x"}})
        assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, name, "unsupported_parameter")
        assert (await gateway.post(path, {**plain, name: None}))[0] == 200
    first = await outcome(gateway, head, path, plain)
    everything = {**plain, **{name: [{"any": "thing"}] for name in lists.ignored}, "x_unknown": 1}
    second = await outcome(gateway, head, path, everything)
    for request in (first.request, second.request):
        request.ClearField("generation_id")
        request.ClearField("created_at")
    assert first.request == second.request


async def test_null_is_the_same_as_absent(gateway: Gateway, head: ScriptedNode) -> None:
    names = (CHAT.honoured | CHAT.extensions) - {"model", "messages", "seed"}
    bare = await outcome(gateway, head, "/v1/chat/completions", chat_body(seed=1))
    nulls = await outcome(gateway, head, "/v1/chat/completions", chat_body(seed=1, **dict.fromkeys(names)))
    assert nulls.status == 200
    for request in (bare.request, nulls.request):
        request.ClearField("generation_id")
        request.ClearField("created_at")
    assert bare.request == nulls.request


async def test_the_gateway_makes_seed_time_and_id(gateway: Gateway, head: ScriptedNode) -> None:
    answers = [await gateway.chat() for _ in range(3)]
    assert len({request.sampling.seed for request in head.requests}) == 3
    assert all(request.sampling.HasField("seed") for request in head.requests)
    assert [request.created_at for request in head.requests] == [answer["created"] for answer in answers]
    for request, answer in zip(head.requests, answers, strict=True):
        assert request.generation_id == "00-" + answer["id"].removeprefix("chatcmpl-")
