"""Chat answers, plain and streamed, over real sockets."""

import json

from gateway_harness import Gateway
from scripted_cluster import ScriptedNode, call, content, failed, finished, logprobs_of, reasoning, say

from tandem.v1 import generation_pb2

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


async def test_a_plain_answer_has_every_required_member(gateway: Gateway) -> None:
    answer = await gateway.chat()
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert answer["model"] == "demo"
    assert answer["system_fingerprint"].startswith("fp_")
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


async def test_a_stream_says_role_once_then_text_then_finish_once(gateway: Gateway) -> None:
    chunks = await gateway.chat_chunks()
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " there"},
        {"content": "."},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert not any("usage" in chunk or "logprobs" in chunk["choices"][0] for chunk in chunks)


async def test_usage_comes_last_and_only_when_asked_for(gateway: Gateway) -> None:
    chunks = await gateway.chat_chunks(stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 18
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_calls_stream_with_id_and_name_once_and_arguments_as_they_come(
    gateway: Gateway, head: ScriptedNode
) -> None:
    head.script = say(
        content("Let me look."),
        *([event] for event in call(0, "get_weather", '{"city"', ': "Oslo"', "}")),
        *([event] for event in call(1, "get_time", '{"zone": "CET"}')),
        finished(generation_pb2.FINISH_REASON_TOOL_CALLS),
    )
    chunks = await gateway.chat_chunks(tools=[WEATHER])
    calls = [delta for chunk in chunks for delta in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert calls == [
        {
            "index": 0,
            "id": "call_" + "a" * 20,
            "type": "function",
            "function": {"name": "get_weather", "arguments": ""},
        },
        {"index": 0, "function": {"arguments": '{"city"'}},
        {"index": 0, "function": {"arguments": ': "Oslo"'}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "id": "call_" + "b" * 20, "type": "function", "function": {"name": "get_time", "arguments": ""}},
        {"index": 1, "function": {"arguments": '{"zone": "CET"}'}},
    ]
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}


async def test_a_plain_answer_is_the_sum_of_the_stream(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(
        reasoning("Hm"), reasoning("m."), *call(0, "get_weather", '{"city": "Os', 'lo"}'), *call(1, "now", whole="")
    )
    message = (await gateway.chat(tools=[WEATHER]))["choices"][0]
    assert message["finish_reason"] == "tool_calls"
    assert message["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Hmm.",
        "tool_calls": [
            {
                "id": "call_" + "a" * 20,
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
            },
            {"id": "call_" + "b" * 20, "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }


async def test_text_survives_every_character(gateway: Gateway, head: ScriptedNode) -> None:
    text = 'quote " backslash \\ newline \n nul \0 line \u2028 next \x85 emoji 🙂 中文'
    head.script = say(content(text))
    chunks = await gateway.chat_chunks()
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text
    assert (await gateway.chat())["choices"][0]["message"]["content"] == text


async def test_choices_are_generations_of_their_own(gateway: Gateway, head: ScriptedNode) -> None:
    async def script(request: generation_pb2.GenerateRequest):
        async for events in say(content(f"choice {request.choice_index}"))(request):
            yield events

    head.script = script
    answer = await gateway.chat(n=3, seed=5)
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["choice 0", "choice 1", "choice 2"]
    assert answer["usage"]["prompt_tokens"] == 11
    assert answer["usage"]["completion_tokens"] == 21
    assert len({request.generation_id for request in head.requests}) == 3
    assert {request.sampling.seed for request in head.requests} == {5}
    chunks = await gateway.chat_chunks(n=2, stream_options={"include_usage": True})
    assert chunks.pop()["usage"]["completion_tokens"] == 14
    for index in (0, 1):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert [choice["delta"].get("content") for choice in own[1:]] == [f"choice {index}", None]
        assert [choice["finish_reason"] for choice in own] == [None, None, "stop"]


async def test_log_probabilities_of_a_stream_are_the_plain_ones_and_its_refusal_is_no_null(
    gateway: Gateway, head: ScriptedNode
) -> None:
    head.script = say(content("Yes", 5, logprobs=[logprobs_of(5, (5, b"Yes", -0.25), (7, b"No", -1.0))]))
    plain = (await gateway.chat(logprobs=True, top_logprobs=2))["choices"][0]["logprobs"]
    chunks = await gateway.chat_chunks(logprobs=True, top_logprobs=2)
    assert plain["refusal"] is None
    streamed = {**plain, "refusal": []}  # OpenAI's description of chunks knows no null there
    assert [shown for chunk in chunks if (shown := chunk["choices"][0]["logprobs"])] == [streamed]


async def test_an_error_after_the_first_chunk_is_told_in_band(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(content("Hel"), failed("stage_lost", "node b is gone", retry_after=3))
    events = await gateway.events(
        "/v1/chat/completions", {"model": "demo", "messages": [{"role": "user", "content": "x"}]}
    )
    assert events[-1] == {
        "error": {"message": "node b is gone", "type": "server_error", "param": None, "code": "stage_lost"}
    }
    assert all(event["choices"][0]["finish_reason"] is None for event in events[:-1])
    error = await gateway.chat_error(503)
    assert error["code"] == "stage_lost"


async def test_an_error_before_acceptance_is_a_plain_error(gateway: Gateway, head: ScriptedNode) -> None:
    async def refuse(_request: generation_pb2.GenerateRequest):
        yield [failed("context_length_exceeded", "9000 tokens do not fit into 8192", param="messages")]

    head.script = refuse
    for stream in (False, True):
        error = await gateway.chat_error(400, stream=stream)
        assert error == {
            "message": "9000 tokens do not fit into 8192",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    assert json.dumps(error)
