"""Many clients at once: each gets what it gets alone, steps are shared, and whoever goes away leaves nothing behind."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import pytest
from grpc import aio
from running_cluster import Cluster, is_busy, running

from tandem import rpc
from tandem.v1 import generation_pb2 as pb
from tandem.v1 import shard_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub
from tandem.v1.shard_pb2_grpc import ShardServiceStub

CLIENTS = 32
CLOSE = 1e-3
"""Two best logits nearer than this may change places with the shape of the batch."""


@dataclass
class Answer:
    """Tokens, and before each the lead of the best over the second-best logit."""

    tokens: list[int]
    leads: list[float]


def requests(seed: int = 5) -> list[pb.GenerateRequest]:
    """Different prompts, lengths and sampling."""
    dice = random.Random(seed)
    words = [
        "weather",
        "river",
        "Paris",
        "timer",
        "list",
        "the",
        "of",
        "and",
        "note",
        "tool",
        "please",
        "quiet",
        "hello",
    ]
    made = []
    for index in range(CLIENTS):
        text = " ".join(dice.choice(words) for _ in range(dice.choice([3, 10, 40, 120])))
        sampling = pb.SamplingParams(logprobs=True, top_logprobs=2, seed=index)
        sampling.temperature = 0.0 if index % 2 else dice.choice([0.7, 1.0])
        if index % 4 == 0:
            sampling.top_p = 0.9
        made.append(
            pb.GenerateRequest(
                generation_id=f"client-{index}",
                model="tandem-demo-qwen",
                text=text,
                max_tokens=dice.choice([48, 64, 80]),
                sampling=sampling,
                ignore_eos=True,
            )
        )
    return made


async def ask(stub: GenerationServiceStub, request: pb.GenerateRequest) -> Answer:
    answer = Answer([], [])
    async for response in stub.Generate(request, timeout=240):
        for event in response.events:
            assert not event.HasField("failed"), event
            answer.tokens += event.token_ids
            answer.leads += [each.top[0].logprob - each.top[1].logprob for each in event.logprobs]
    return answer


async def figures(channel: aio.Channel) -> shard_pb2.Shard:
    (shard,) = (await ShardServiceStub(channel).ListShards(shard_pb2.ListShardsRequest(), timeout=5)).shards
    return shard


async def test_each_of_32_clients_gets_what_it_gets_alone(demo: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    async with rpc.make_channel(demo.nodes[0].address) as channel:
        stub = GenerationServiceStub(channel)
        alone = [await ask(stub, request) for request in requests()]
        before = await figures(channel)
        begin = time.perf_counter()
        together = await asyncio.gather(*(ask(stub, request) for request in requests()))
        seconds = time.perf_counter() - begin
        after = await figures(channel)
    different = [(one, many) for one, many in zip(alone, together, strict=True) if one.tokens != many.tokens]
    for one, many in different:
        at = next(i for i, pair in enumerate(zip(one.tokens, many.tokens, strict=True)) if pair[0] != pair[1])
        assert one.leads[at] < CLOSE, f"token {at} differs although the best leads by {one.leads[at]}"
    assert len(different) <= 2
    decoded = sum(len(answer.tokens) for answer in together)
    steps = steps_between(before, after)
    with capsys.disabled():
        print(
            f"\n{decoded} tokens of {CLIENTS} clients in {seconds:.1f} s: {decoded / seconds:.0f} tokens/s, "
            f"{steps.rows / steps.count:.1f} of them in a step"
        )
    assert steps.rows / steps.count >= 8, steps


@dataclass
class Steps:
    count: float
    rows: float


def steps_between(before: shard_pb2.Shard, after: shard_pb2.Shard) -> Steps:
    """Decode steps and rows between two readings of a shard."""
    return Steps(
        after.decode_steps - before.decode_steps,
        after.mean_decode_batch * after.decode_steps - before.mean_decode_batch * before.decode_steps,
    )


@dataclass(frozen=True)
class Left:
    """A cluster, and how often clients go away from it."""

    cluster: Cluster
    batches: int


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((("--prefill-chunk", "64"), 5), id="small-chunks"),
        pytest.param(((), 2), id="as-shipped", marks=pytest.mark.slow),
    ],
)
def left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """A cluster whose prefill goes in chunks of 64 tokens, so that fifty clients soon are in the middle of theirs; and
    one with the chunks that are shipped, which take seconds where there is no GPU."""
    flags, batches = request.param
    with running(tmp_path_factory.mktemp("left"), 2, *flags, model="tandem-demo") as cluster:
        yield Left(cluster, batches)


LONG = [20 + index % 2000 for index in range(2000)]
SLACK = 0.2
"""Seconds, beside one step, until everything is free."""
GROWTH = 48 << 20
"""Bytes by which a node may be larger after a batch than after the first one: allocators keep some pages."""


class Batch(Protocol):
    """Clients that go away together; how often is told by the number."""

    async def __call__(self, number: int) -> float:
        """Returns as soon as they are gone: the longest pause between two events of any of them, which is the longest
        step that the pipeline did meanwhile, in seconds."""


async def test_100_disconnects_leave_nothing_behind(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of them in the middle of the prefill of 2,000 tokens; 40 where each chunk takes seconds."""

    async def batch(number: int) -> float:
        clients = [Client(index) for index in range(20 * number, 20 * number + 20)]
        await asyncio.gather(*(client.read_and_leave(stub) for client in clients))
        assert [client.tokens for client in clients if client.long] == [0] * 10
        times = sorted(time for client in clients for time in client.times)
        return max(after - before for before, after in itertools.pairwise(times))

    async with rpc.make_channel(left.cluster.nodes[0].address) as channel:
        stub = GenerationServiceStub(channel)
        await leave_nothing_behind(left, stub, batch, capsys)


async def test_disconnects_of_http_clients_leave_nothing_behind(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    """The same through the gateway, half of them right behind the headers."""

    async def batch(number: int) -> float:
        # A session of its own each time: closing it closes the connections, also those in the middle of an answer.
        async with aiohttp.ClientSession(left.cluster.base) as session:
            await asyncio.gather(*(hang_up(session, index) for index in range(8 * number, 8 * number + 8)))
        return 0.0

    async with rpc.make_channel(left.cluster.nodes[0].address) as channel:
        await leave_nothing_behind(left, GenerationServiceStub(channel), batch, capsys)
    async with (
        aiohttp.ClientSession(left.cluster.base) as session,
        session.post(
            "/v1/completions", json={"model": "tandem-demo-qwen", "prompt": "Hi", "max_tokens": 3}
        ) as response,
    ):
        assert response.status == 200


async def leave_nothing_behind(
    left: Left, stub: GenerationServiceStub, batch: Batch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs batches of clients that go away; after each, every stage is free within one step and ``SLACK``."""
    nodes = left.cluster.nodes
    channels = [rpc.make_channel(node.address) for node in nodes]
    steps, waits, memory = [], [], []
    try:
        for number in range(left.batches):
            alone = await longest_step(stub)
            steps.append(max(alone, await batch(number)))
            waits.append(await until_free(channels))
            memory.append([node.memory() for node in nodes])
    finally:
        for channel in channels:
            await channel.close()
    grown = [max(later) - first for first, *later in zip(*memory, strict=True)]
    with capsys.disabled():
        print(
            f"\nfree {milliseconds(waits)} ms after clients left; the longest steps took {milliseconds(steps)} ms; "
            f"nodes grew by {[round(more / 1e6, 1) for more in grown]} MB at most"
        )
    assert all(wait < step + SLACK for wait, step in zip(waits, steps, strict=True))
    assert all(more < GROWTH for more in grown)


def milliseconds(seconds: Sequence[float]) -> list[int]:
    return [round(1000 * each) for each in seconds]


async def longest_step(stub: GenerationServiceStub) -> float:
    """Seconds that a prompt alone waits at most for one chunk of its prefill."""
    request = pb.GenerateRequest(
        generation_id=f"step-{time.monotonic_ns()}",
        model="tandem-demo-qwen",
        token_ids=pb.TokenIds(ids=LONG),
        max_tokens=1,
    )
    times: list[float] = []
    call = stub.Generate(request, timeout=120)
    async for response in call:
        times += [time.monotonic() for event in response.events if event.HasField("prefill")]
        if len(times) == 4:
            break
    call.cancel()
    assert len(times) >= 3
    return max(after - before for before, after in itertools.pairwise(times))


async def until_free(channels: Sequence[aio.Channel]) -> float:
    """Seconds until no stage holds anything of a request."""
    left = time.monotonic()
    while True:
        shards = [await figures(channel) for channel in channels]
        if not any(map(is_busy, shards)):
            return time.monotonic() - left
        assert time.monotonic() < left + 10, shards
        await asyncio.sleep(0.005)


async def hang_up(session: aiohttp.ClientSession, index: int) -> None:
    """Closes the connection as soon as the stream has begun, or after a few chunks with text."""
    long = index % 2 == 1
    prompt = LONG if long else LONG[: 10 + index]
    body = {"model": "tandem-demo-qwen", "prompt": prompt, "max_tokens": 2000, "ignore_eos": True, "stream": True}
    seen = 0
    async with session.post("/v1/completions", json=body) as response:
        assert response.status == 200
        async for line in response.content:
            seen += line.startswith(b"data: ")
            if long or seen > 4:
                break
        response.close()


class Client:
    """Goes away in the middle of its prefill, or after a few tokens; notes when it heard something."""

    def __init__(self, index: int) -> None:
        self.long = index % 2 == 1
        # The last one is among those that stay for a second chunk: it leaves while the third one is computed.
        self._chunks = 1 + index // 2 % 2
        self.tokens = 0
        self.times: list[float] = []
        self._request = pb.GenerateRequest(
            generation_id=f"gone-{index}-{time.monotonic_ns()}",
            model="tandem-demo-qwen",
            token_ids=pb.TokenIds(ids=LONG if self.long else LONG[: 10 + index]),
            ignore_eos=True,
            sampling=pb.SamplingParams(temperature=0),
        )

    async def read_and_leave(self, stub: GenerationServiceStub) -> None:
        call, chunks = stub.Generate(self._request, timeout=600), 0
        async for response in call:
            prefilled = sum(event.HasField("prefill") for event in response.events)
            chunks += prefilled
            tokens = sum(len(event.token_ids) for event in response.events)
            self.tokens += tokens
            if prefilled or tokens:
                self.times.append(time.monotonic())
            if self.tokens > 3 or (self.long and chunks >= self._chunks):
                break
        call.cancel()
