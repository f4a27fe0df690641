"""What the gateway's own work costs per chunk, beside a server that only reads from gRPC and writes to HTTP.

    scripts/bench_gateway.py [--pairs 9] [--json FILE]

Four processes on loopback: a stub head behind the real ``Generate`` that gives each of 64 streams a token every 20 ms,
all in the same step, as a head with one lane does; the gateway as it is installed; a bare server that awaits a message
of ``Generate`` and writes one constant chunk of the same size for it; and this process, the client of both, which reads
and counts events. The gateway and the bare server take turns, and which goes first alternates.

Counted is the CPU time of the whole server process, all threads, from the time when all streams flow until a fixed
number of chunks later. Medians are printed, and the median of the pairs' ratios. Wanted: at most 1.3 x.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from bench.command import make_parser, save

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "gateway"))

from tandem import rpc
from tandem.v1 import generation_pb2, generation_pb2_grpc

ROOT = Path(__file__).resolve().parents[1]
STREAMS, PERIOD = 64, 0.02
WARM_UP, STEPS = 50, 200
SECONDS = 120.0
"""For one run, and for the start of a process."""
TARGET = 1.3
MODEL, TOKEN = "demo", " token"
PATH = "/v1/chat/completions"


# -- the stub head


async def head() -> None:
    """Prints its port, then answers until killed."""
    from scripted_cluster import ScriptedNode, accepted, content, finished, pipeline

    step = asyncio.Event()

    async def script(_: generation_pb2.GenerateRequest) -> AsyncIterator[list[generation_pb2.GenerationEvent]]:
        yield [accepted()]
        for number in range(WARM_UP + STEPS + WARM_UP):
            await step.wait()
            yield [content(TOKEN, number)]
        yield [finished()]

    node = ScriptedNode()
    node.script = script
    await node.start()
    node.show(pipeline(MODEL))
    print("ready", node.address, flush=True)
    while True:
        await asyncio.sleep(PERIOD - time.monotonic() % PERIOD)
        now, step = step, asyncio.Event()
        now.set()


# -- the bare server


async def bare(address: str) -> None:
    """Prints its address, then serves until killed."""
    stub = generation_pb2_grpc.GenerationServiceStub(rpc.make_channel(address))

    async def answer(request: web.Request) -> web.StreamResponse:
        chunk = b"data: " + await request.read() + b"\n\n"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        call = stub.Generate(generation_pb2.GenerateRequest(model=MODEL))
        while isinstance(await call.read(), generation_pb2.GenerateResponse):
            await response.write(chunk)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_post(PATH, answer)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("ready", f"127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


# -- the client


@dataclass(frozen=True)
class Server:
    """A server under test: where it listens, what it is sent, and its process."""

    address: str
    body: bytes
    process: psutil.Process

    def cpu(self) -> float:
        """Seconds of CPU that its process has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


async def run(server: Server) -> float:
    """Seconds of CPU per chunk while all streams flow."""
    chunks = 0
    cpu = [0.0, 0.0]
    begin, end = STREAMS * WARM_UP, STREAMS * (WARM_UP + STEPS)

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal chunks
        async with session.post(f"http://{server.address}{PATH}", data=server.body, headers=headers) as response:
            response.raise_for_status()
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                chunks += 1
                if chunks in (begin, end):
                    cpu[chunks == end] = server.cpu()

    headers = {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as tasks:
        for _ in range(STREAMS):
            tasks.create_task(one(session))
    if chunks < end:
        raise SystemExit(f"{chunks} chunks instead of at least {end}")
    return (cpu[1] - cpu[0]) / (end - begin)


async def sample(address: str, body: bytes) -> bytes:
    """One chunk with content as the gateway writes it, without what stands around its JSON."""
    timeout = aiohttp.ClientTimeout(SECONDS)
    url = f"http://{address}{PATH}"
    async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, data=body) as response:
        async for line in response.content:
            if TOKEN.encode() in line:
                return line.removeprefix(b"data: ").rstrip()
    raise SystemExit("the gateway streams nothing")


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A process while the block runs, with the address that its first line ends with."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=PIPE, stderr=DEVNULL, cwd=ROOT, env=environment, start_new_session=True
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = (await child.stdout.readline()).decode()
        if not line.startswith("ready"):
            raise SystemExit(f"{' '.join(command)} did not start: {line!r}")
        yield line.split()[-1].split("=")[-1].removeprefix("http://"), psutil.Process(child.pid)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def measure(pairs: int) -> dict[str, Any]:
    """Runs everything; the figures."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "stream": True}
    body = json.dumps(asked).encode()
    times: list[tuple[float, float]] = []
    async with AsyncExitStack() as stack:
        node, _ = await stack.enter_async_context(started(__file__, "--head"))
        flags = ("--listen", "127.0.0.1:0", "--no-mdns", "--node", node)
        gateway, ours = await stack.enter_async_context(started("-m", "tandem.cli", "gateway", *flags))
        plain, theirs = await stack.enter_async_context(started(__file__, "--bare", node))
        chunk = await sample(gateway, body)
        servers = (Server(gateway, body, ours), Server(plain, chunk, theirs))
        for server in servers:
            await run(server)
        for number in range(pairs):
            first = number % 2
            one = await run(servers[first])
            other = await run(servers[1 - first])
            times.append((other, one) if first else (one, other))
    return figures(times, len(chunk))


def figures(times: list[tuple[float, float]], size: int) -> dict[str, Any]:
    """Medians of (gateway, bare) pairs of seconds per chunk."""
    ratio = statistics.median(gateway / bare for gateway, bare in times)
    return {
        "pairs": len(times),
        "chunk_bytes": size,
        "gateway_us_per_chunk": statistics.median(gateway for gateway, _ in times) * 1e6,
        "bare_us_per_chunk": statistics.median(bare for _, bare in times) * 1e6,
        "ratio": ratio,
        "target": TARGET,
        "passed": ratio <= TARGET,
        "all_us": [[gateway * 1e6, bare * 1e6] for gateway, bare in times],
    }


def report(result: dict[str, Any]) -> str:
    """The table."""
    return (
        f"{STREAMS} streams, {PERIOD * 1e3:.0f} ms steps, chunks of {result['chunk_bytes']} bytes, "
        f"medians of {result['pairs']} interleaved pairs\n"
        f"{'':10} {'CPU us per chunk':>17}\n"
        f"{'gateway':10} {result['gateway_us_per_chunk']:17.1f}\n"
        f"{'bare':10} {result['bare_us_per_chunk']:17.1f}\n"
        f"gateway / bare: {result['ratio']:.2f} (wanted: at most {TARGET})"
    )


def main() -> int:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of measurements")
    parser.add_argument("--head", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare", metavar="HOST:PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.head or arguments.bare:
        rpc.tune_process()
        rpc.run(head() if arguments.head else bare(arguments.bare))
        return 0
    result = rpc.run(measure(arguments.pairs))
    print(report(result))
    save(result, arguments.json)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
