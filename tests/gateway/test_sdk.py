"""OpenAI's own Python client against the gateway."""

import openai
import pytest
from gateway_harness import Gateway, Start
from scripted_cluster import ScriptedNode, call, content, finished, logprobs_of, reasoning, say

from tandem.v1 import generation_pb2

ASK = [{"role": "user", "content": "What is the weather in Oslo?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


async def test_models(gateway: Gateway) -> None:
    async with gateway.sdk() as client:
        assert [model.id async for model in client.models.list()] == ["demo", "org/model-4bit"]
        assert (await client.models.retrieve("org/model-4bit")).owned_by == "tandem"


async def test_a_conversation_with_tools_over_two_turns(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(
        *call(0, "get_weather", '{"city":', ' "Oslo"}'), finished(generation_pb2.FINISH_REASON_TOOL_CALLS)
    )
    async with gateway.sdk() as client:
        first = (await client.chat.completions.create(model="demo", messages=ASK, tools=TOOLS)).choices[0]
        assert first.finish_reason == "tool_calls"
        assert first.message.tool_calls
        result = {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": "21 degrees"}
        head.script = say(content("21 degrees in Oslo."))
        second = await client.chat.completions.create(model="demo", messages=[*ASK, first.message, result], tools=TOOLS)
    assert second.choices[0].message.content == "21 degrees in Oslo."
    history = head.requests[1].conversation.messages
    assert history[1].tool_calls[0].arguments_json == '{"city": "Oslo"}'
    assert history[2].tool_call_id == history[1].tool_calls[0].tool_call_id
    assert history[2].name == "get_weather"


async def test_the_stream_helper_puts_calls_together(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(
        content("Looking."),
        *([event] for event in call(0, "get_weather", '{"city"', ':"Oslo"}')),
        *([event] for event in call(1, "get_weather", '{"city"', ':"Rome"}')),
    )
    async with (
        gateway.sdk() as client,
        client.chat.completions.stream(model="demo", messages=ASK, tools=TOOLS) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = (await stream.get_final_completion()).choices[0]
    assert kinds.count("tool_calls.function.arguments.done") == 2
    assert final.message.content == "Looking."
    assert [
        (item.id, item.function.name, item.function.parsed_arguments) for item in final.message.tool_calls or ()
    ] == [
        ("call_" + "a" * 20, "get_weather", {"city": "Oslo"}),
        ("call_" + "b" * 20, "get_weather", {"city": "Rome"}),
    ]
    assert final.finish_reason == "tool_calls"


async def test_the_legacy_form_comes_back_as_asked(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(*([event] for event in (*call(0, "f", '{"a"', ": 1}"), *call(1, "f", "{}"))))
    functions = [{"name": "f", "parameters": {"type": "object"}}]
    async with gateway.sdk() as client:
        plain = (await client.chat.completions.create(model="demo", messages=ASK, functions=functions)).choices[0]
        assert plain.finish_reason == "function_call"
        assert plain.message.function_call
        assert (plain.message.function_call.name, plain.message.function_call.arguments) == ("f", '{"a": 1}')
        assert plain.message.tool_calls is None
        stream = await client.chat.completions.create(model="demo", messages=ASK, functions=functions, stream=True)
        deltas = [(chunk.choices[0].delta.function_call, chunk.choices[0].finish_reason) async for chunk in stream]
    calls = [call for call, _ in deltas if call]
    assert [call.name for call in calls if call.name] == ["f"]
    assert "".join(call.arguments or "" for call in calls) == '{"a": 1}'
    assert deltas[-1][1] == "function_call"


async def test_logprobs_and_reasoning(gateway: Gateway, head: ScriptedNode) -> None:
    token = logprobs_of(5, (7, "né".encode(), -0.25), (5, "é".encode(), -1.0), (9, b"x", -3.0))
    half = logprobs_of(6, (6, b"\xc3", -0.5))
    head.script = say(reasoning("hm"), content("é", 5, 6, logprobs=[token, half]))
    async with gateway.sdk() as client:
        plain = await client.chat.completions.create(model="demo", messages=ASK, logprobs=True, top_logprobs=2)
        stream = await client.chat.completions.create(
            model="demo", messages=ASK, logprobs=True, top_logprobs=2, stream=True
        )
        streamed = [item async for chunk in stream for item in (chunk.choices[0].logprobs or NOTHING).content or ()]
    choice = plain.choices[0]
    assert choice.message.model_extra == {"reasoning_content": "hm"}
    assert choice.logprobs
    assert choice.logprobs.content == streamed
    first, second = streamed
    assert (first.token, first.bytes, first.logprob) == ("é", [0xC3, 0xA9], -1.0)
    assert [(item.token, item.logprob) for item in first.top_logprobs] == [("né", -0.25), ("é", -1.0)]
    assert (second.token, second.bytes) == ("\ufffd", [0xC3])


class NOTHING:
    content = None


async def test_errors_have_their_classes(gateway: Gateway, start: Start, head: ScriptedNode) -> None:
    async with gateway.sdk() as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="nope", messages=ASK)
        assert missing.value.code == "model_not_found"
        assert missing.value.request_id
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="demo", messages=ASK, temperature=9)
        assert (bad.value.param, bad.value.code) == ("temperature", "invalid_value")
        head.script = say(
            content("Hel"), generation_pb2.GenerationEvent(failed=generation_pb2.Failed(code="stage_lost"))
        )
        stream = await client.chat.completions.create(model="demo", messages=ASK, stream=True)
        with pytest.raises(openai.APIError) as broken:
            async for _ in stream:
                pass
        assert broken.value.code == "stage_lost"
    locked = await start(api_keys=("right",))
    async with locked.sdk() as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_completions(gateway: Gateway) -> None:
    async with gateway.sdk() as client:
        plain = await client.completions.create(model="demo", prompt="Once", max_tokens=4)
        stream = await client.completions.create(model="demo", prompt="Once", stream=True)
        text = "".join([chunk.choices[0].text async for chunk in stream])
    assert plain.choices[0].text == text == "Hello there."
