"""Streams over time: heartbeats, clients that go, heads that break or stand still."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from gateway_harness import Gateway, Start, chat_body
from scripted_cluster import ScriptedNode, accepted, content, finished, pipeline, say, until

from gateway.limits import Limits
from tandem.v1 import generation_pb2

QUICK = Limits(heartbeat=0.05)
CHAT = "/v1/chat/completions"


def after(gate: asyncio.Event):
    async def script(_request: generation_pb2.GenerateRequest):
        yield [accepted()]
        await gate.wait()
        yield [content("late")]
        yield [finished()]

    return script


@asynccontextmanager
async def open_stream(gateway: Gateway, **fields: object) -> AsyncIterator[aiohttp.ClientResponse]:
    async with gateway.session.post(gateway.base + CHAT, json=chat_body(stream=True, **fields)) as response:
        assert response.status == 200, await response.read()
        yield response


async def next_event(response: aiohttp.ClientResponse) -> object:
    async with asyncio.timeout(5):
        line = await response.content.readuntil(b"\n\n")
    text = line.decode().removeprefix("data: ").strip()
    return text if text == "[DONE]" else json.loads(text)


async def test_the_first_chunk_comes_before_the_prompt_has_run(gateway: Gateway, head: ScriptedNode) -> None:
    gate = asyncio.Event()
    head.script = after(gate)
    async with open_stream(gateway) as response:
        first = await next_event(response)
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        gate.set()
        assert (await next_event(response))["choices"][0]["delta"] == {"content": "late"}


async def test_silence_is_filled_with_empty_deltas(start: Start, head: ScriptedNode) -> None:
    gateway = await start(QUICK)
    gate = asyncio.Event()
    head.script = after(gate)
    async with open_stream(gateway, n=2) as response:
        await next_event(response)
        await next_event(response)
        for _ in range(3):
            beat = await next_event(response)
            assert beat["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
        gate.set()
        rest = []
        while (event := await next_event(response)) != "[DONE]":
            rest.append(event["choices"][0])
        assert sum(choice["delta"].get("content") == "late" for choice in rest) == 2
        assert [choice["finish_reason"] for choice in rest if choice["finish_reason"]] == ["stop", "stop"]


async def test_heartbeats_leave_choices_alone_that_have_ended(start: Start, head: ScriptedNode) -> None:
    gateway = await start(QUICK)
    gate = asyncio.Event()

    async def script(request: generation_pb2.GenerateRequest):
        yield [accepted()]
        if request.choice_index == 1:
            await gate.wait()
        yield [finished()]

    head.script = script
    async with open_stream(gateway, n=2) as response:
        while (event := await next_event(response))["choices"][0]["finish_reason"] is None:
            pass
        assert event["choices"][0]["index"] == 0
        for _ in range(2):
            assert (await next_event(response))["choices"] == [{"index": 1, "delta": {}, "finish_reason": None}]
        gate.set()


async def test_text_streams_beat_too(start: Start, head: ScriptedNode) -> None:
    gateway = await start(QUICK)
    gate = asyncio.Event()
    head.script = after(gate)
    body = {"model": "demo", "prompt": "x", "stream": True}
    async with gateway.session.post(gateway.base + "/v1/completions", json=body) as response:
        for _ in range(3):
            event = await next_event(response)
            assert event["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": None}]
        gate.set()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choices", [1, 3])
async def test_a_client_that_goes_ends_the_generation(
    gateway: Gateway, head: ScriptedNode, stream: bool, choices: int
) -> None:
    head.script = after(asyncio.Event())
    async with aiohttp.ClientSession() as session:
        sending = asyncio.create_task(session.post(gateway.base + CHAT, json=chat_body(stream=stream, n=choices)))
        await until(lambda: len(head.requests) == choices)
        if stream:
            response = await sending
            await next_event(response)
            response.close()
        sending.cancel()
        await asyncio.wait({sending})
    await until(lambda: len(head.ended) >= choices)


async def test_events_that_come_together_go_out_together(
    gateway: Gateway, head: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    write = aiohttp.web.StreamResponse.write

    async def spy(self: aiohttp.web.StreamResponse, data: bytes) -> None:
        writes.append(data)
        await write(self, data)

    monkeypatch.setattr(aiohttp.web.StreamResponse, "write", spy)
    head.script = say([content("a"), content("b"), content("c")], content("d"))
    await gateway.chat_chunks()
    assert [data.count(b'"content":"') for data in writes] == [1, 3, 1, 0, 0]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_head_that_ends_early_is_told(gateway: Gateway, head: ScriptedNode, stream: bool) -> None:
    async def script(_request: generation_pb2.GenerateRequest):
        yield [accepted()]
        yield [content("Hel")]

    head.script = script
    if stream:
        events = await gateway.events(CHAT, chat_body())
        assert events[-1]["error"]["code"] == "head_lost"
    else:
        assert (await gateway.chat_error(503))["code"] == "head_lost"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_head_that_dies_is_told(gateway: Gateway, head: ScriptedNode, stream: bool) -> None:
    head.script = after(asyncio.Event())
    asking = asyncio.create_task(gateway.events(CHAT, chat_body()) if stream else gateway.post(CHAT, chat_body()))
    await until(lambda: head.requests)
    await head.stop()
    got = await asking
    error = got[-1]["error"] if stream else got[1]["error"]
    assert (error["type"], error["code"]) == ("server_error", "head_lost")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_head_that_stands_still_is_given_up(start: Start, head: ScriptedNode, stream: bool) -> None:
    gateway = await start(Limits(idle=0.1))
    head.script = after(asyncio.Event())
    if stream:
        events = await gateway.events(CHAT, chat_body())
        assert events[-1]["error"]["code"] == "head_lost"
    else:
        assert (await gateway.chat_error(503))["code"] == "head_lost"
    await until(lambda: head.ended)


async def test_a_head_that_never_accepts_is_given_up(start: Start, head: ScriptedNode) -> None:
    gateway = await start(Limits(accept=0.1))

    async def script(_request: generation_pb2.GenerateRequest):
        await asyncio.Event().wait()
        yield []

    head.script = script
    assert (await gateway.chat_error(503))["code"] == "head_lost"
    assert (await gateway.chat_error(503, n=2, stream=True))["code"] == "head_lost"
    await until(lambda: len(head.ended) >= 3)


async def test_messages_keep_a_slow_generation_alive(start: Start, head: ScriptedNode) -> None:
    gateway = await start(Limits(idle=0.2))

    async def script(_request: generation_pb2.GenerateRequest):
        yield [accepted()]
        for done in range(8):
            await asyncio.sleep(0.05)
            yield [generation_pb2.GenerationEvent(prefill=generation_pb2.PrefillProgress(processed_tokens=done))]
        yield [content("late"), finished()]

    head.script = script
    assert (await gateway.chat())["choices"][0]["message"]["content"] == "late"


async def test_one_choice_that_fails_ends_the_others(gateway: Gateway, head: ScriptedNode) -> None:
    async def script(request: generation_pb2.GenerateRequest):
        yield [accepted()]
        if request.choice_index == 1:
            yield [generation_pb2.GenerationEvent(failed=generation_pb2.Failed(code="stage_lost", message="b"))]
        await asyncio.Event().wait()

    head.script = script
    events = await gateway.events(CHAT, chat_body(n=3))
    assert events[-1]["error"]["code"] == "stage_lost"
    assert (await gateway.chat_error(503, n=3))["code"] == "stage_lost"
    await until(lambda: len(head.ended) >= 6)


async def test_one_choice_that_is_refused_ends_the_others(gateway: Gateway, head: ScriptedNode) -> None:
    async def script(request: generation_pb2.GenerateRequest):
        if request.choice_index == 1:
            yield [generation_pb2.GenerationEvent(failed=generation_pb2.Failed(code="rate_limit_exceeded"))]
            return
        yield [accepted()]
        await asyncio.Event().wait()

    head.script = script
    for stream in (False, True):
        assert (await gateway.chat_error(429, n=3, stream=stream))["code"] == "rate_limit_exceeded"
    await until(lambda: len(head.ended) >= len(head.requests))


async def test_a_cancelled_generation_has_no_finish_reason(gateway: Gateway, head: ScriptedNode) -> None:
    head.script = say(content("x"), finished(generation_pb2.FINISH_REASON_CANCELLED))
    events = await gateway.events(CHAT, chat_body())
    assert events[-1]["error"]["code"] == "cancelled"
    assert (await gateway.chat_error(500))["code"] == "cancelled"


async def test_a_bug_in_a_stream_is_told_in_band(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr("gateway.openai.chat_stream.ChatStream.feed", broken)
    events = await gateway.events(CHAT, chat_body())
    assert events[-1]["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(events)
    assert "secret words" in caplog.text


async def test_a_hundred_streams_at_once_keep_apart(gateway: Gateway, head: ScriptedNode) -> None:
    async def script(request: generation_pb2.GenerateRequest):
        own = request.conversation.messages[0].content[0].text
        yield [accepted()]
        for _ in range(5):
            await asyncio.sleep(0)
            yield [content(own)]
        yield [finished()]

    head.script = script
    head.show(pipeline("demo"))
    answers = await asyncio.gather(
        *(gateway.chat_chunks(messages=[{"role": "user", "content": f"<{number}>"}]) for number in range(100))
    )
    for number, chunks in enumerate(answers):
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert text == f"<{number}>" * 5


@pytest.mark.parametrize("choices", [1, 3])
async def test_a_client_that_goes_in_mid_write_is_no_error(
    gateway: Gateway, head: ScriptedNode, caplog: pytest.LogCaptureFixture, choices: int
) -> None:
    async def flood(_request: generation_pb2.GenerateRequest):
        yield [accepted()]
        while True:
            yield [content("x" * 10_000)]

    head.script = flood
    for _ in range(5):
        async with aiohttp.ClientSession() as session:
            response = await session.post(gateway.base + CHAT, json=chat_body(stream=True, n=choices))
            for _ in range(choices + 1):
                await next_event(response)
            response.close()
    await until(lambda: len(head.ended) == 5 * choices)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
