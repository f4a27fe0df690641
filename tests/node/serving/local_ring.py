"""A whole ring in one process: real shards of a tiny random model, real links over memory, one MLX thread per stage.

``pace`` makes each step of a stage take that many seconds whatever the batch is, as on a device whose steps are bound
by reading weights.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models import llama

from node.engine.cutting import CutPlan, ModelStage
from node.engine.frames import StageStatistics
from node.engine.head import HeadShard, Sample
from node.engine.sampling import RowSampler, SamplingParams
from node.engine.shard import Shard
from node.engine.worker import Worker
from node.links.base import Pipe
from node.links.link import IncomingLink
from node.links.memory import MemoryListener
from node.serving.relay import Relay
from node.serving.ring import Ring
from node.serving.scheduler import Scheduler
from node.serving.ticket import Limits, Ticket
from tandem.errors import TandemError
from tandem.v1 import pipeline_pb2 as pb

VOCABULARY = 128
LAYERS = 6
ARGUMENTS = llama.ModelArgs(
    model_type="llama",
    hidden_size=32,
    num_hidden_layers=LAYERS,
    intermediate_size=64,
    num_attention_heads=2,
    num_key_value_heads=1,
    rms_norm_eps=1e-5,
    vocab_size=VOCABULARY,
    tie_word_embeddings=False,
)
HELLO = pb.LinkHello(pipeline_id="local", epoch=1, node_id="here", incarnation=1, plan_digest="same")


class PacedStage:
    """A stage whose steps take at least ``pace`` seconds."""

    def __init__(self, stage: ModelStage, pace: float) -> None:
        self._stage = stage
        self._pace = pace

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def __call__(self, tokens: mx.array, wire: Sequence[mx.array | None], cache: Sequence[Any]) -> Any:
        begin = time.perf_counter()
        out = self._stage(tokens, wire, cache)
        mx.eval([array for array in out if array is not None])
        time.sleep(max(0.0, self._pace - (time.perf_counter() - begin)))
        return out


def make_model() -> llama.Model:
    """The tiny model, the same each time."""
    mx.random.seed(3)
    model = llama.Model(ARGUMENTS)
    model.update(tree_map(lambda p: p + 0.3 * mx.random.normal(p.shape), model.parameters()))
    mx.eval(model.parameters())
    return model


def make_shard(index: int, stages: int, pace: float, kv_tokens: int) -> Shard:
    """One stage; for its worker's thread."""
    model = make_model()
    plan = CutPlan(model)
    cuts = [round(i * LAYERS / stages) for i in range(stages + 1)]
    stage = ModelStage(model, plan, cuts[index], cuts[index + 1], tail=stages == 1)
    slow: Any = PacedStage(stage, pace) if pace else stage
    budget: dict[str, int] = {"kv_bytes_per_token": 1, "kv_budget_bytes": kv_tokens}
    if index:
        return Shard(slow, **budget)
    epilogue = None if stages == 1 else ModelStage(model, plan, plan.n_calls, plan.n_calls, tail=True)
    return HeadShard(slow, epilogue, **budget)


class Listener:
    """A client of the scheduler that keeps what it gets."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.processed = 0
        self.error: TandemError | None = None
        self.over = asyncio.Event()
        self.stop_after = 1 << 30

    def on_prefill(self, processed: int) -> None:
        self.processed = processed

    def on_sample(self, sample: Sample) -> bool:
        self.tokens.append(sample.token)
        more = len(self.tokens) < self.stop_after
        if sample.last or not more:
            self.over.set()
        return more

    def on_failure(self, error: TandemError) -> None:
        self.error = error
        self.over.set()


class LocalRing:
    """A running scheduler over a ring of this process."""

    def __init__(self, scheduler: Scheduler, ring: Ring, workers: list[Worker], shards: list[Shard]) -> None:
        self.scheduler = scheduler
        self.ring = ring
        self.workers = workers
        self.shards = shards

    def submit(
        self, prompt: Sequence[int], count: int, sampling: SamplingParams | None = None, **options: Any
    ) -> tuple[Ticket, Listener]:
        """A request for ``count`` tokens."""
        listener = Listener()
        ticket = self.scheduler.submit(
            options.pop("name", "test"),
            list(prompt),
            max_tokens=count,
            reserve=options.pop("reserve", len(prompt) + count),
            stop_ids=options.pop("stop_ids", frozenset()),
            sampler=RowSampler.for_prompt(
                sampling or SamplingParams(), prompt, constraint=options.pop("constraint", None)
            ),
            client=options.pop("client", listener),
        )
        return ticket, listener

    async def generate(
        self, prompt: Sequence[int], count: int, sampling: SamplingParams | None = None, **options: Any
    ) -> list[int]:
        """The tokens of one request."""
        _, listener = self.submit(prompt, count, sampling, **options)
        async with asyncio.timeout(60):
            await listener.over.wait()
        assert listener.error is None, listener.error
        return listener.tokens

    async def statistics(self) -> list[StageStatistics]:
        """Of each stage."""
        pairs = zip(self.workers, self.shards, strict=True)
        return [await worker.run(shard.statistics) for worker, shard in pairs]

    async def until_empty(self) -> None:
        """Waits until no stage holds a sequence."""
        async with asyncio.timeout(10):
            while any(figures.live_sequences or figures.kv_bytes for figures in await self.statistics()):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def local_ring(
    stages: int, *, pace: float = 0.0, kv_tokens: int = 1 << 20, **limits: Any
) -> AsyncIterator[LocalRing]:
    """A ring of that many stages, working."""
    workers = [Worker(f"mlx {index}") for index in range(stages)]
    shards = [
        await worker.run(partial(make_shard, index, stages, pace, kv_tokens)) for index, worker in enumerate(workers)
    ]
    ring = Ring(stages, HELLO)
    listeners: list[MemoryListener] = []

    async def accept_head(pipe: Pipe) -> None:
        link, _ = await IncomingLink.accept(pipe, lambda hello: False)
        await ring.serve_closing(link)

    async def accept_relay(relay: Relay, pipe: Pipe) -> None:
        link, _ = await IncomingLink.accept(pipe, lambda hello: True)
        await relay.serve(link, 1)

    listeners.append(MemoryListener(accept_head))
    for index in range(stages - 1, 0, -1):
        relay = Relay(workers[index], shards[index], HELLO, listeners[-1].dial, f"stage {index + 1}")
        listeners.append(MemoryListener(partial(accept_relay, relay)))
    head = shards[0]
    assert isinstance(head, HeadShard)
    scheduler = Scheduler(workers[0], head, ring, Limits(kv_tokens=kv_tokens, **limits))
    running: asyncio.Task[None] | None = None
    try:
        await ring.connect(listeners[-1].dial)
        running = asyncio.create_task(scheduler.run())
        yield LocalRing(scheduler, ring, workers, shards)
    finally:
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await ring.close()
        for listener in listeners:
            await listener.close()
        for worker in workers:
            await asyncio.to_thread(worker.stop)
