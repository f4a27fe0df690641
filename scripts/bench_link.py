"""Measure how fast a link carries the hidden states of a long prefill, beside raw TCP.

    scripts/bench_link.py [--pairs 21] [--json FILE]

Two processes on this machine. One step of 2,048 tokens of hidden size 4,096 in bfloat16 (16 MiB) goes through an
``OutgoingLink`` and an ``IncomingLink`` over gRPC, as between two stages but without a model; then the same bytes
go over a blocking TCP connection. Either way they end in memory of their own, as a stage needs them. Each time runs
from the first byte handed over until one byte has come back over TCP to say that all have arrived. The two take turns,
so that whatever else the machine does falls on both; medians are printed, and the median of the ratios of neighbours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import sys
import threading
import time
import zlib
from pathlib import Path

from bench.command import make_parser, save

from node.engine.frames import ElementType, Span, Step, Tensor
from node.links.base import Pipe
from node.links.grpc import DialledPipe, add_pipeline_service
from node.links.link import IncomingLink, OutgoingLink
from tandem import rpc
from tandem.v1 import pipeline_pb2 as pb

ROOT = Path(__file__).resolve().parents[1]
TOKENS, HIDDEN = 2048, 4096
BYTES = TOKENS * HIDDEN * ElementType.BFLOAT16.size
WARM_UP = 4
SOURCES = 4
"""Different bytes by turns: what a stage has just computed does not lie in the caches as a benchmark's one buffer."""
TARGET = 0.5


def step(step_id: int, data: bytes) -> Step:
    """The prefill step that travels."""
    tensor = Tensor(ElementType.BFLOAT16, (1, TOKENS, HIDDEN), data)
    return Step(step_id, 0, TOKENS, (Span(1, 0, TOKENS, 0),), (tensor,))


def crc(data: bytes | bytearray | memoryview | None) -> bytes:
    """Four bytes that tell whether all arrived as it was sent."""
    return zlib.crc32(data or b"").to_bytes(4, "big")


async def receive() -> None:
    """The other process: says where it listens, then acknowledges what it gets until its input ends."""
    answers: asyncio.Queue[bytes] = asyncio.Queue(1)

    async def accept(pipe: Pipe) -> None:
        link, _ = await IncomingLink.accept(pipe, lambda hello: True)
        first = True
        while (entry := await link.receive()) is not None:
            assert isinstance(entry, Step)
            await answers.put(crc(entry.tensors[0].data) if first else b"\x01")
            first = False
            del entry  # its memory serves the next one, as below
        await answers.put(b"")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not reader.at_eof():
                writer.write(await answers.get())
        except asyncio.CancelledError:
            writer.close()  # the end of the process: asyncio's streams would show it as an error

    server = rpc.make_server()
    port = server.add_insecure_port("127.0.0.1:0")
    add_pipeline_service(server, accept)
    await server.start()
    answering = await asyncio.start_server(answer, "127.0.0.1", 0)
    raw = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=receive_raw, args=(raw,), daemon=True).start()
    print(port, answering.sockets[0].getsockname()[1], raw.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    answering.close()
    await server.stop(0)


def receive_raw(listener: socket.socket) -> None:
    """Blocking TCP: an answer whenever a buffer is full."""
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    first = True
    while True:
        buffer = memoryview(bytearray(BYTES))
        filled = 0
        while filled < BYTES:
            count = peer.recv_into(buffer[filled:])
            if count == 0:
                return
            filled += count
        peer.sendall(crc(buffer) if first else b"\x01")
        first = False
        del buffer


class Raw:
    """The sender's end of blocking TCP."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes, answer: int = 1) -> tuple[float, bytes]:
        """Seconds until the answer came, and the answer."""
        begin = time.perf_counter()
        self._socket.sendall(data)
        got = b""
        while len(got) < answer:
            got += self._socket.recv(answer - len(got))
        return time.perf_counter() - begin, got

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


async def measure(pairs: int) -> dict[str, object]:
    """Runs both processes; the figures."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--receive", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            port, answering, raw_port = map(int, (await child.stdout.readline()).split())
        reader, writer = await asyncio.open_connection("127.0.0.1", answering)
        pipe = DialledPipe(rpc.make_channel(f"127.0.0.1:{port}"), own_channel=True)
        link = await OutgoingLink.open(pipe, pb.LinkHello(pipeline_id="bench", epoch=1))
        raw = Raw(raw_port)
        payloads = [os.urandom(BYTES) for _ in range(SOURCES)]

        async def pair(number: int, answer: int = 1) -> tuple[float, float]:
            """Seconds of the link and of raw TCP; the longer answers say what arrived."""
            data = payloads[number % SOURCES]
            begin = time.perf_counter()
            async with asyncio.timeout(60):
                await link.send(step(number, data))
                got = await reader.readexactly(answer)
            seconds = time.perf_counter() - begin
            raw_seconds, raw_got = raw.send(data, answer)
            if answer > 1 and not got == raw_got == crc(data):
                raise SystemExit("the bytes that arrived are not those that were sent")
            return seconds, raw_seconds

        await pair(1, answer=4)
        times = [await pair(number) for number in range(2, 2 + WARM_UP + pairs)][WARM_UP:]
        raw.close()
        await link.close()
        writer.close()
    finally:
        assert child.stdin is not None
        child.stdin.close()
        await child.wait()
    return figures(times)


def figures(times: list[tuple[float, float]]) -> dict[str, object]:
    """Medians of (link, raw TCP) pairs of seconds."""
    link, raw = statistics.median(pair[0] for pair in times), statistics.median(pair[1] for pair in times)
    ratio = statistics.median(pair[1] / pair[0] for pair in times)
    return {
        "bytes": BYTES,
        "pairs": len(times),
        "link_ms": link * 1e3,
        "link_gb_per_s": BYTES / link / 1e9,
        "raw_tcp_ms": raw * 1e3,
        "raw_tcp_gb_per_s": BYTES / raw / 1e9,
        "link_to_raw": ratio,
        "target": TARGET,
        "passed": ratio >= TARGET,
    }


def report(result: dict[str, object]) -> str:
    """The table."""
    return (
        f"{BYTES >> 20} MiB, medians of {result['pairs']} interleaved pairs\n"
        f"{'':10} {'ms':>8} {'GB/s':>8}\n"
        f"{'link':10} {result['link_ms']:8.1f} {result['link_gb_per_s']:8.2f}\n"
        f"{'raw TCP':10} {result['raw_tcp_ms']:8.1f} {result['raw_tcp_gb_per_s']:8.2f}\n"
        f"link / raw TCP: {result['link_to_raw']:.2f} (target: at least {TARGET})"
    )


def main() -> int:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=21, help="pairs of measurements")
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rpc.tune_process()
    if arguments.receive:
        rpc.run(receive())
        return 0
    result = rpc.run(measure(arguments.pairs))
    print(report(result))
    save(result, arguments.json)
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
