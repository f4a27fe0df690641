"""Two processes with the same shards that compute and pass bytes on, and do nothing else."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from grpc import aio

from bench.clocks import FIRST_TOKEN, TOKENS, Clocks, Figures
from bench.processes import Child, child
from node.engine import frames
from node.engine.head import HeadShard, Row
from node.engine.headers import read_headers
from node.engine.loading import load_shard
from node.engine.sampling import RowSampler, SamplingParams
from node.engine.shard import Shard
from node.engine.worker import Worker
from node.links.grpc import DialledPipe, add_pipeline_service
from tandem import rpc

T = TypeVar("T")


class BareRing:
    """The two processes; ``plan`` is that of the ring that they are compared with, and says whether they compute in a
    thread of their own (``thread``)."""

    def __init__(self, head: Child) -> None:
        self._head = head

    @classmethod
    @contextmanager
    def started(cls, entry: str, plan: dict[str, Any]) -> Iterator[BareRing]:
        """Both processes while the block runs: the script ``entry`` with ``--bare``, which calls ``serve``."""
        command = [entry, "--bare", json.dumps(plan)]
        with child(command) as stage, child([*command, *stage.greeting.split()]) as head:
            yield cls(head)

    def measure(self, way: str) -> Figures:
        """One turn, ``grpc`` or ``raw``."""
        told = json.loads(self._head.ask(way))
        return Figures.of(told["turns"], told["steps"])


def serve(plan: str, *ports: str) -> None:
    """One of the two processes, until its input ends: the stage behind the head, or with its ports the head."""
    rpc.tune_process()
    rpc.run(serve_head(plan, *map(int, ports)) if ports else serve_stage(plan))


class Compute:
    """One of the two shards, with clocks, in the thread that is to use it: ``worker``'s, or this one without."""

    def __init__(self, shard: Shard, worker: Worker | None) -> None:
        self._worker = worker
        self.shard = shard

    @classmethod
    async def load(cls, plan: str, index: int) -> Compute:
        """Loads it."""
        told = json.loads(plan)
        folder = await asyncio.to_thread(Path, told["folder"])
        ranges = [(int(first), int(end)) for first, end in told["ranges"]]
        load = partial(
            load_shard, folder, read_headers(folder), ranges, index, cast_to=told["cast_to"], kv_budget_bytes=1 << 30
        )
        worker = Worker() if told["thread"] else None
        loaded = load() if worker is None else await worker.run(load)
        return cls(loaded.shard, worker)

    async def run(self, job: Callable[[], T]) -> T:
        """The result of a job."""
        return job() if self._worker is None else await self._worker.run(job)


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes from a blocking connection."""
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) != size:
        raise SystemExit("the other process ended")
    return data


def bytes_of(step: frames.Step) -> bytes:
    """What crosses the cut."""
    (tensor,) = step.tensors
    assert tensor.data is not None
    return bytes(tensor.data)


def with_bytes(step: frames.Step, data: bytes) -> frames.Step:
    """The same step with other bytes."""
    (tensor,) = step.tensors
    tensors = (frames.Tensor(tensor.element, tensor.shape, data),)
    return frames.Step(step.step_id, step.lane, step.length, step.spans, tensors)


def first_step(sequence: int, element: int, shape: Sequence[int]) -> frames.Step:
    """The first step of a sequence, its bytes still missing."""
    tensor = frames.Tensor(frames.ElementType(element), tuple(shape), None)
    return frames.Step(1, 0, 1, (frames.Span(sequence, 0, 1, 1),), (tensor,))


def after(step: frames.Step) -> frames.Step:
    """The same sequence's next step."""
    span = step.spans[0]
    moved = (frames.Span(span.sequence_id, span.position + 1, 1, 1),)
    return frames.Step(step.step_id + 1, step.lane, 1, moved, step.tensors)


async def serve_stage(plan: str) -> None:
    """The process behind the head: each turn begins with a line that says which way, and ends with its clocks."""
    clocks = Clocks()
    clocks.install()
    compute = await Compute.load(plan, 1)
    listener = socket.create_server(("127.0.0.1", 0))

    async def accept(pipe: Any) -> None:
        context = pipe._context  # the bare call, without what the pipe adds
        raw: socket.socket | None = None
        while (order := await context.read()) is not aio.EOF:
            told = json.loads(order)
            step = first_step(told["sequence"], told["element"], told["shape"])
            size = told["size"]
            await compute.run(partial(compute.shard.apply, frames.OpenSequence(told["sequence"], "", TOKENS)))
            if told["raw"] and raw is None:
                raw, _ = listener.accept()
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(told["steps"]):
                if told["raw"]:
                    assert raw is not None
                    raw.sendall(stage_step(compute.shard, step, exactly(raw, size)))
                else:
                    data = await context.read()
                    await context.write(await compute.run(partial(stage_step, compute.shard, step, data)))
                step = after(step)
            await compute.run(partial(compute.shard.apply, frames.CloseSequence(told["sequence"])))
            await context.write(clocks.take())

    server = rpc.make_server()
    port = server.add_insecure_port("127.0.0.1:0")
    add_pipeline_service(server, accept)
    await server.start()
    print(port, listener.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


def stage_step(shard: Shard, step: frames.Step, data: bytes) -> bytes:
    """The stage's answer to a step with these bytes."""
    out = shard.apply(with_bytes(step, data))
    assert isinstance(out, frames.Step)
    if out.failures:
        raise SystemExit(f"the stage failed: {out.failures[0].message}")
    return bytes_of(out)


async def serve_head(plan: str, port: int, raw_port: int) -> None:
    """The process with the head: each line of its input is one turn, ``grpc`` or ``raw``, answered with its clocks."""
    clocks = Clocks()
    clocks.install()
    compute = await Compute.load(plan, 0)
    head = compute.shard
    assert isinstance(head, HeadShard)
    pipe = DialledPipe(rpc.make_channel(f"127.0.0.1:{port}"), own_channel=True)
    call: Any = pipe._call
    raw = socket.create_connection(("127.0.0.1", raw_port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("ready", flush=True)
    sequence = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        blocking = line.strip() == "raw"
        sequence += 1
        await compute.run(partial(head.apply, frames.OpenSequence(sequence, "", TOKENS)))
        row = Row(sequence, FIRST_TOKEN, 0, TOKENS, frozenset(), RowSampler(SamplingParams()))
        begun = False
        turn = await compute.run(partial(head.turn, 1, 0, None, [row]))
        while (step := turn.step) is not None:
            data = bytes_of(step)
            if not begun:
                (tensor,) = step.tensors
                order = {"raw": blocking, "sequence": sequence, "steps": TOKENS, "size": len(data)}
                order |= {"element": int(tensor.element), "shape": tensor.shape}
                await call.write(json.dumps(order).encode())
                begun = True
            if blocking:
                raw.sendall(data)
                answer = exactly(raw, len(data))
            else:
                await call.write(data)
                answer = await call.read()
            turn = await compute.run(partial(head.turn, step.step_id + 1, 0, with_bytes(step, answer), []))
        await compute.run(partial(head.apply, frames.CloseSequence(sequence)))
        theirs = json.loads(await call.read())
        print(json.dumps({"turns": json.loads(clocks.take())["turns"], "steps": theirs["steps"]}), flush=True)
    await pipe.close()
