"""The ring as it is: two node daemons with clocks, and ``GenerationService.Generate``."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.clocks import FIRST_TOKEN, TOKENS, Clocks, Figures
from tandem.v1 import generation_pb2, membership_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub

ROOT: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from running_cluster import Cluster

SECONDS: Final = 120.0


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


class TandemRing:
    """Two node daemons on this machine that hold one model."""

    def __init__(self, cluster: Cluster, model: str) -> None:
        self._clocks = [cluster.folder / f"{name}.clocks" for name in ("node-0", "node-1")]
        self.pipeline: membership_pb2.Pipeline = cluster.load(model)
        first = self.pipeline.stages[0].node_ids[0]
        self._head = next(index for index, node in enumerate(cluster.nodes) if node.node_id == first)
        self._channel = cluster.channel(self._head)

    @classmethod
    @contextmanager
    def started(cls, entry: str, folder: Path, model: str) -> Iterator[TandemRing]:
        """The ring while the block runs; its daemons are the script ``entry`` with ``--node``, which calls
        ``run_node``."""
        cluster = Cluster(folder)
        try:
            for name in ("node-0", "node-1"):
                cluster.new_node(entry=(entry, "--node", str(folder / f"{name}.clocks"))).start()
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
