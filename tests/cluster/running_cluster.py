"""A real cluster for tests: node daemons and a gateway as processes on loopback, each with its own state folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil

from tandem import rpc
from tandem.v1 import membership_pb2, model_pb2, shard_pb2, types_pb2
from tandem.v1.membership_pb2_grpc import MembershipServiceStub
from tandem.v1.model_pb2_grpc import ModelServiceStub
from tandem.v1.shard_pb2_grpc import ShardServiceStub

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
NODE = ("-m", "tandem.cli", "node")
"""What runs a node's command line."""


@dataclass
class Daemon:
    """One process that printed its ready line."""

    name: str
    arguments: list[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] = field(init=False)
    address: str = ""
    node_id: str = ""

    def start(self) -> None:
        """Starts the process and waits for its ready line."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
        environment["XDG_CONFIG_HOME"] = str(self.folder)
        # No test reaches the network or the caches of whoever runs it: nothing listens on the discard port.
        environment |= {"HF_HOME": str(self.folder / f"{self.name}-hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
        environment |= self.environment
        self.log = (self.folder / f"{self.name}.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, *self.arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        watchdog = threading.Timer(START_SECONDS, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("ready"), f"{self.name}: {line!r}\n{self.log_text()}"
        (self.address,) = re.findall(r"listen=(\S+)", line)
        self.node_id = next(iter(re.findall(r" id=(\S+)", line)), "")

    def log_text(self) -> str:
        """Its standard error so far."""
        return (self.folder / f"{self.name}.log").read_text()

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        """Ends it without a word."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._close()

    def pause(self) -> None:
        """Freezes it."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Asks it to end; its exit code."""
        if self.process.poll() is None:
            self.resume()
            self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._close()

    def _close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


class Cluster:
    """Nodes and at most one gateway. Synchronous: tests ask it from threads or before their loop runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"test-{uuid.uuid4().hex[:8]}"
        self.nodes: list[Daemon] = []
        self.gateway: Daemon | None = None

    @property
    def base(self) -> str:
        """The gateway's URL."""
        assert self.gateway is not None
        return f"http://{self.gateway.address}"

    def new_node(
        self,
        *flags: str,
        mdns: bool = False,
        environment: Mapping[str, str] | None = None,
        entry: Sequence[str] = NODE,
    ) -> Daemon:
        """One more node, not started yet, which will join the first. ``entry`` is what runs a node's command line."""
        name = f"node-{len(self.nodes)}"
        arguments = [*entry, "--name", name, "--listen", "127.0.0.1:0", "--cluster", self.name]
        arguments += ["--data-dir", str(self.folder / name), *flags]
        arguments += [] if mdns else ["--no-mdns"]
        if self.nodes and not mdns:
            arguments += ["--peer", self.nodes[0].address]
        node = Daemon(name, arguments, self.folder, environment or {})
        self.nodes.append(node)
        return node

    def add_node(self, *flags: str, mdns: bool = False, environment: Mapping[str, str] | None = None) -> Daemon:
        """Starts one more node, which joins the first."""
        node = self.new_node(*flags, mdns=mdns, environment=environment)
        node.start()
        return node

    def restart(self, node: Daemon) -> None:
        """Starts a node that ended, on the address that it had."""
        arguments = list(node.arguments)
        arguments[arguments.index("--listen") + 1] = node.address
        if "--peer" not in arguments and len(self.nodes) > 1:
            other = next(other for other in self.nodes if other is not node)
            arguments += ["--peer", other.address]
        node.arguments = arguments
        node.start()

    def add_gateway(self, *flags: str) -> Daemon:
        """Starts the gateway."""
        arguments = ["-m", "tandem.cli", "gateway", "--listen", "127.0.0.1:0", "--cluster", self.name, "--no-mdns"]
        for node in self.nodes:
            arguments += ["--node", node.address]
        self.gateway = Daemon("gateway", [*arguments, *flags], self.folder)
        self.gateway.start()
        return self.gateway

    def channel(self, node: int = 0) -> grpc.Channel:
        """A synchronous channel to a node."""
        return grpc.insecure_channel(self.nodes[node].address, options=rpc.CHANNEL_OPTIONS)

    def tandem(self, *arguments: str, node: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command of ``tandem`` against a node."""
        command = [sys.executable, "-m", "tandem.cli", *arguments, "--node", self.nodes[node].address]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TANDEM_")}
        environment["XDG_CONFIG_HOME"] = str(self.folder)
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, cwd=self.folder, env=environment
        )

    def topology(self, node: int = 0) -> membership_pb2.Topology:
        """The view of a node."""
        with self.channel(node) as channel:
            stub = MembershipServiceStub(channel)
            return stub.GetTopology(membership_pb2.GetTopologyRequest(), timeout=5).topology

    def shards(self, node: int = 0) -> list[shard_pb2.Shard]:
        """What a node holds."""
        with self.channel(node) as channel:
            return list(ShardServiceStub(channel).ListShards(shard_pb2.ListShardsRequest(), timeout=5).shards)

    def wait_members(self, count: int, seconds: float = START_SECONDS) -> None:
        """Waits until the first node sees that many alive."""
        alive = membership_pb2.NODE_STATE_ALIVE
        until(lambda: [node.state for node in self.topology().nodes].count(alive) == count, seconds)

    def load(self, model: str = "tandem-demo", stages: int = 0) -> membership_pb2.Pipeline:
        """Loads a model over so many nodes; the ready pipeline."""
        self.wait_members(len(self.nodes))
        return self.load_events(model, stage_count=stages or len(self.nodes))[-1].ready

    def load_events(self, model: str = "", *, node: int = 0, **wish: Any) -> list[model_pb2.LoadModelResponse]:
        """Everything that a load says, the ready pipeline last."""
        request = model_pb2.LoadModelRequest(model=types_pb2.ModelRef(model_id=model), **wish)
        with self.channel(node) as channel:
            events = list(ModelServiceStub(channel).LoadModel(request, timeout=120))
        assert events[-1].HasField("ready"), events[-1]
        return events

    def unload(self, name: str, node: int = 0) -> int:
        """Unloads a model by way of a node; bytes freed."""
        with self.channel(node) as channel:
            request = model_pb2.UnloadModelRequest(name=name)
            return int(ModelServiceStub(channel).UnloadModel(request, timeout=30).freed_bytes)

    def stop(self) -> None:
        """Ends every process, and checks that each ended in good order."""
        codes = [daemon.stop() for daemon in self._all() if daemon.process.poll() is None]
        assert all(code == 0 for code in codes), [daemon.log_text()[-2000:] for daemon in self._all()]

    def kill(self) -> None:
        """Ends every process whatever happens."""
        for daemon in self._all():
            daemon.kill()

    def _all(self) -> Sequence[Daemon]:
        return [*([self.gateway] if self.gateway else []), *self.nodes]


def is_busy(shard: shard_pb2.Shard) -> bool:
    """Whether a stage holds anything of a request, or has anything to do for one."""
    return bool(shard.live_sequences or shard.kv_bytes or shard.pending_steps)


def until(condition: Callable[[], object], seconds: float) -> float:
    """Waits until a condition holds; the seconds that it took. What it raises counts as no until the time is over."""
    begin = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - begin
            problem: Exception | None = None
        except (grpc.RpcError, OSError, AssertionError) as error:
            problem = error
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"not within {seconds} s: {condition.__doc__ or condition}") from problem
        time.sleep(0.05)


@contextmanager
def running(
    folder: Path, nodes: int, *flags: str, model: str = "", gateway: bool = True, entry: Sequence[str] = NODE
) -> Iterator[Cluster]:
    """A cluster of that many nodes, with a model over all of them where one is named; ``entry`` as of ``new_node``."""
    cluster = Cluster(folder)
    try:
        for _ in range(nodes):
            cluster.new_node(*flags, entry=entry).start()
        if nodes:
            cluster.wait_members(nodes)
        if model:
            cluster.load(model)
        if gateway:
            cluster.add_gateway()
        yield cluster
        cluster.stop()
    finally:
        cluster.kill()
