"""Many clients at once: each gets what it gets alone, steps are shared, and whoever goes away leaves nothing behind."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from grpc import aio
from running_cluster import Cluster, running

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


async def test_each_of_32_clients_gets_what_it_gets_alone(demo: Cluster) -> None:
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
    print(f"{decoded} tokens of {CLIENTS} clients in {seconds:.1f} s: {decoded / seconds:.0f} tokens/s")
    steps = steps_between(before, after)
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


@pytest.fixture(scope="module")
def small_steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose prefill goes in small chunks: a test can leave in the middle of it soon."""
    flags = ("--prefill-chunk", "64")
    with running(tmp_path_factory.mktemp("small"), 2, *flags, model="tandem-demo", gateway=False) as cluster:
        yield cluster


async def test_100_disconnects_leave_nothing_behind(small_steps: Cluster) -> None:
    """Half of them in the middle of the prefill of 2,000 tokens."""
    demo = small_steps
    ids = [20 + index % 2000 for index in range(2000)]
    channels = [rpc.make_channel(node.address) for node in demo.nodes]
    try:
        stub = GenerationServiceStub(channels[0])
        await asyncio.gather(*(disconnect(stub, index, ids) for index in range(20)))
        memory = [node.memory() for node in demo.nodes]
        for batch in range(4):
            await asyncio.gather(*(disconnect(stub, index, ids) for index in range(20 * batch, 20 * batch + 20)))
        left = time.monotonic()
        while True:
            shards = [await figures(channel) for channel in channels]
            if all(not shard.live_sequences and not shard.kv_bytes for shard in shards):
                break
            assert time.monotonic() < left + 10, shards
            await asyncio.sleep(0.02)
        print(f"everything was free {1000 * (time.monotonic() - left):.0f} ms after the last disconnect")
        grown = [node.memory() - bytes_ for node, bytes_ in zip(demo.nodes, memory, strict=True)]
        assert all(more < 64 << 20 for more in grown), grown
    finally:
        for channel in channels:
            await channel.close()


async def disconnect(stub: GenerationServiceStub, index: int, ids: list[int]) -> None:
    """Goes away in the middle of the prefill, or after a few tokens."""
    long = index % 2 == 0
    prompt = ids if long else ids[: 10 + index]
    call = stub.Generate(
        pb.GenerateRequest(
            generation_id=f"gone-{index}-{time.monotonic_ns()}",
            model="tandem-demo-qwen",
            token_ids=pb.TokenIds(ids=prompt),
            ignore_eos=True,
            sampling=pb.SamplingParams(temperature=0),
        ),
        timeout=120,
    )
    seen = 0
    async for response in call:
        for event in response.events:
            seen += len(event.token_ids)
        if (long and any(event.HasField("prefill") for event in response.events)) or seen > 3:
            break
    call.cancel()
