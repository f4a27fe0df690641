"""What a hop costs a token, beside a bare grpc.aio hop and raw TCP.

    scripts/bench_hop.py [--rounds 7] [--only MODEL] [--json FILE]

A model is cut in two, and one sequence decodes greedily, so that each token makes two hops. Four rings take turns:

- tandem: two node daemons and ``GenerationService.Generate``, all of it real;
- bare: two processes with the same shards, which hand nothing but the bytes of the hidden states to a grpc.aio
  stream and take them from it, on uvloop, without scheduler, log or events; they compute in a thread of their own, as
  whoever must answer heartbeats meanwhile has to;
- inline: the same, but computing on the loop's own thread;
- raw: blocking TCP between two such processes, computing in the same thread.

In all of them clocks around ``HeadShard.turn`` (epilogue, sampling, first layers) and ``Shard.apply`` (the other
layers) say how long a token's computing took in the very process that did it. What is left of the time from the
beginning of one turn to the beginning of the next is the cost of two hops: an overhead per hop and token of
``(period - computing) / 2``. So the gap between two messages is the same in all rings, and caches are as cold.
The hidden states are 1 KiB (the demo model) and 8 KiB (a random Llama of hidden size 2,048) a token.

Medians over the tokens of a turn, then over the rounds; each ratio is the median of the rounds' ratios. Wanted: tandem
at most 1.5 x bare. Computing is printed too: a ring whose transport disturbs it would show there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cluster"))

from grpc import aio
from running_cluster import Cluster

from node.engine import frames
from node.engine.head import HeadShard, Row
from node.engine.headers import read_headers
from node.engine.loading import load_shard
from node.engine.sampling import RowSampler, SamplingParams
from node.engine.shard import Shard
from node.engine.worker import Worker
from node.links.grpc import DialledPipe, add_pipeline_service
from tandem import rpc
from tandem.v1 import generation_pb2, membership_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub

T = TypeVar("T")

TOKENS, SKIPPED = 96, 8
"""Tokens of a turn, and how many of the first are not counted."""
SECONDS = 120.0
TARGET = 1.5
FIRST_TOKEN = 40
MODELS: dict[str, dict[str, int]] = {
    "demo": {},
    "8 KiB": {"hidden_size": 2048, "num_hidden_layers": 2, "intermediate_size": 2048, "num_attention_heads": 16},
}


@dataclass
class Clocks:
    """When computing began and ended: of the head's turns, and of the other stage's decode steps."""

    turns: list[tuple[float, float]] = field(default_factory=list)
    steps: list[tuple[float, float]] = field(default_factory=list)

    def install(self) -> None:
        """Puts clocks around the two entry points of the engine, for the life of the process."""
        turn, apply = HeadShard.turn, Shard.apply

        def timed_turn(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            result = turn(*arguments, **named)
            self.turns.append((begin, time.perf_counter()))
            return result

        def timed_apply(shard: Shard, entry: frames.Entry) -> frames.Entry:
            begin = time.perf_counter()
            result = apply(shard, entry)
            if isinstance(entry, frames.Step):
                self.steps.append((begin, time.perf_counter()))
            return result

        HeadShard.turn = timed_turn  # type: ignore[method-assign]
        Shard.apply = timed_apply  # type: ignore[method-assign, assignment]

    def take(self) -> bytes:
        """What was measured since the last time, as JSON."""
        text = json.dumps({"turns": self.turns, "steps": self.steps}).encode()
        self.turns.clear()
        self.steps.clear()
        return text


@dataclass(frozen=True)
class Figures:
    """Medians of one turn of one ring, in seconds per token: overhead per hop, and computing."""

    overhead: float
    compute: float

    @classmethod
    def of(cls, turns: Sequence[Sequence[float]], steps: Sequence[Sequence[float]]) -> Figures:
        """From the head's turns, of which the last sends no step, and the steps between them."""
        if len(turns) != len(steps) + 1 or len(steps) < TOKENS - 1:
            raise SystemExit(f"{len(turns)} turns and {len(steps)} steps do not belong together")
        compute = [turns[k][1] - turns[k][0] + steps[k][1] - steps[k][0] for k in range(len(steps))]
        periods = [turns[k + 1][0] - turns[k][0] for k in range(len(steps))]
        overheads = [(period - busy) / 2 for period, busy in zip(periods, compute, strict=True)]
        return cls(statistics.median(overheads[SKIPPED:]), statistics.median(compute[SKIPPED:]))


# -- Tandem


def run_node(clocks_at: str, arguments: list[str]) -> int:
    """A node daemon with clocks, which whoever connects to the socket ``clocks_at`` may read."""
    from node.__main__ import main as node_main

    clocks = Clocks()
    clocks.install()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(clocks_at)
    listener.listen()

    def answer() -> None:
        while True:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(clocks.take())

    threading.Thread(target=answer, daemon=True).start()
    sys.argv[1:] = arguments
    return node_main()


class Tandem:
    """Two node daemons on this machine that hold one model."""

    def __init__(self, cluster: Cluster, model: str) -> None:
        self._clocks = [cluster.folder / f"{name}.clocks" for name in ("node-0", "node-1")]
        self.pipeline: membership_pb2.Pipeline = cluster.load(model)
        first = self.pipeline.stages[0].node_ids[0]
        self._head = next(index for index, node in enumerate(cluster.nodes) if node.node_id == first)
        self._channel = cluster.channel(self._head)

    @classmethod
    @contextmanager
    def started(cls, folder: Path, model: str) -> Iterator[Tandem]:
        """The ring while the block runs."""
        cluster = Cluster(folder)
        try:
            for name in ("node-0", "node-1"):
                cluster.new_node(entry=(__file__, "--node", str(folder / f"{name}.clocks"))).start()
            yield cls(cluster, model)
            cluster.stop()
        finally:
            cluster.kill()

    def measure(self) -> Figures:
        """One turn."""
        for path in self._clocks:
            self._take(path)
        request = generation_pb2.GenerateRequest(
            generation_id=f"hop-{time.monotonic_ns()}",
            model=self.pipeline.served_names[0].name,
            token_ids=generation_pb2.TokenIds(ids=[FIRST_TOKEN]),
            max_tokens=TOKENS,
            ignore_eos=True,
            sampling=generation_pb2.SamplingParams(temperature=0.0),
        )
        counted = 0
        for response in GenerationServiceStub(self._channel).Generate(request, timeout=SECONDS):
            for event in response.events:
                if event.HasField("failed"):
                    raise SystemExit(f"the generation failed: {event.failed}")
                counted += len(event.token_ids)
        if counted != TOKENS:
            raise SystemExit(f"{counted} tokens instead of {TOKENS}")
        head, other = (json.loads(self._take(self._clocks[index])) for index in (self._head, 1 - self._head))
        return Figures.of(head["turns"], other["steps"])

    @staticmethod
    def _take(path: Path) -> bytes:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            return b"".join(iter(lambda: peer.recv(1 << 16), b""))


# -- bare gRPC and raw TCP


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


class Bare:
    """The two processes that only compute and pass bytes on."""

    def __init__(self, head: subprocess.Popen[str]) -> None:
        self._head = head

    @classmethod
    @contextmanager
    def started(cls, plan: dict[str, Any]) -> Iterator[Bare]:
        """Both processes while the block runs."""
        command = [sys.executable, __file__, "--bare", json.dumps(plan)]
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as stage:
            try:
                ports = _line(stage).split()
                with subprocess.Popen([*command, *ports], stdin=PIPE, stdout=PIPE, text=True) as head:
                    try:
                        _line(head)
                        yield cls(head)
                    finally:
                        head.kill()
            finally:
                stage.kill()

    def measure(self, way: str) -> Figures:
        """One turn, ``grpc`` or ``raw``."""
        assert self._head.stdin is not None
        self._head.stdin.write(way + "\n")
        self._head.stdin.flush()
        told = json.loads(_line(self._head))
        return Figures.of(told["turns"], told["steps"])


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a process of the bare ring ended")
    return line


# -- all


def measure(size: str, folder: Path, rounds: int) -> dict[str, Any]:
    """The figures for one model."""
    from make_model import DEMO, configurations, make_model

    model = DEMO
    if MODELS[size]:
        model = folder / "model"
        make_model(configurations()["llama"] | MODELS[size], model, tokenizer=DEMO)
    with Tandem.started(folder, str(model) if MODELS[size] else "tandem-demo") as tandem:
        segments = [stage.segments[0] for stage in tandem.pipeline.stages]
        ranges = [(segment.first_layer, segment.end_layer) for segment in segments]
        plan = {"folder": str(model), "ranges": ranges, "cast_to": "float32"}
        with Bare.started(plan | {"thread": True}) as threaded, Bare.started(plan | {"thread": False}) as inline:
            ways = {
                "tandem": tandem.measure,
                "bare": lambda: threaded.measure("grpc"),
                "inline": lambda: inline.measure("grpc"),
                "raw": lambda: inline.measure("raw"),
            }
            for run in ways.values():
                run()
            names = list(ways)
            rows = []
            for number in range(rounds):
                turn = number % len(names)
                rows.append({name: ways[name]() for name in names[turn:] + names[:turn]})
    return figures(rows)


def figures(rows: Sequence[dict[str, Figures]]) -> dict[str, Any]:
    """Medians over the rounds, in microseconds."""
    result: dict[str, Any] = {"rounds": len(rows), "target": TARGET}
    for name in rows[0]:
        result[name] = {
            "overhead_us": statistics.median(row[name].overhead for row in rows) * 1e6,
            "compute_us": statistics.median(row[name].compute for row in rows) * 1e6,
            "all_overhead_us": [row[name].overhead * 1e6 for row in rows],
        }
    for name in ("bare", "inline", "raw"):
        result[f"to_{name}"] = statistics.median(row["tandem"].overhead / row[name].overhead for row in rows)
    result["passed"] = result["to_bare"] <= TARGET
    return result


def report(size: str, result: dict[str, Any]) -> str:
    """The table of one model."""
    lines = [f"{size}, {result['rounds']} rounds", f"{'':8} {'us per hop':>10} {'computing us per token':>23}"]
    for name in ("tandem", "bare", "inline", "raw"):
        lines.append(f"{name:8} {result[name]['overhead_us']:10.0f} {result[name]['compute_us']:23.0f}")
    verdict = "reached" if result["passed"] else "MISSED"
    lines.append(f"tandem / bare: {result['to_bare']:.2f} (wanted: at most {TARGET}: {verdict})")
    lines.append(f"tandem / inline: {result['to_inline']:.2f}, tandem / raw: {result['to_raw']:.2f}")
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    if sys.argv[1:2] == ["--node"]:
        return run_node(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often the three rings take turns")
    parser.add_argument("--only", choices=list(MODELS), help="one of the two models")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--bare", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        plan, *ports = arguments.bare
        rpc.tune_process()
        rpc.run(serve_head(plan, *map(int, ports)) if ports else serve_stage(plan))
        return 0
    results = {}
    for size in [arguments.only] if arguments.only else MODELS:
        with tempfile.TemporaryDirectory() as folder:
            results[size] = measure(size, Path(folder), arguments.rounds)
        print(report(size, results[size]), flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return 0 if all(result["passed"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
