"""Membership over real gRPC on loopback, in one process, with short time-outs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.cluster.addresses import listen_endpoints
from node.cluster.hints import Hints
from node.cluster.identity import Identity
from node.cluster.membership import LocalState, Membership
from node.cluster.timing import Timing
from node.services.membership import MembershipServicer
from tandem import rpc
from tandem.clock import Clock
from tandem.v1.membership_pb2 import NODE_STATE_ALIVE, NODE_STATE_LOST, NodeCapabilities
from tandem.v1.membership_pb2_grpc import add_MembershipServiceServicer_to_server

TIMING = Timing(
    beat=0.1,
    tick=0.05,
    silence=1.5,
    suspicion=0.4,
    stuck=0.5,
    verdict=0.6,
    join=3.0,
    retry=0.05,
    retry_cap=0.3,
    stalled=0.7,
    interfaces=0.2,
    settle=1.0,
)


class FakeTime:
    """A hand-turned clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(monotonic=lambda: self.now, boottime=lambda: self.now, wall=lambda: self.now)


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


class CountingServicer(MembershipServicer):
    """Knows how many heartbeat streams it serves now."""

    streams = 0

    async def Heartbeat(self, request_iterator: Any, context: Any) -> None:
        self.streams += 1
        try:
            await super().Heartbeat(request_iterator, context)
        finally:
            self.streams -= 1


class Member:
    """One node of a test."""

    def __init__(
        self, name: str, peers: Sequence[str], identity: Identity, *, cluster: str, version: str, advertised: str | None
    ) -> None:
        self.server = rpc.make_server()
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self.identity = identity
        self.hints = Hints(peers)
        self.fenced: list[str] = []
        self.local = LocalState(NodeCapabilities(memory_bytes=7), NODE_STATE_ALIVE, "", 0, 0, ())
        self.asleep = 0.0
        way_in = int((advertised or self.address).rpartition(":")[2])
        self.membership = Membership(
            identity=identity,
            name=name,
            cluster=cluster,
            endpoints=lambda: listen_endpoints("127.0.0.1", way_in),
            local=lambda: self.local,
            hints=self.hints,
            version=version,
            on_fenced=self.fenced.append,
            clock=Clock(boottime=lambda: time.monotonic() + self.asleep),
            timing=TIMING,
        )
        self.servicer = CountingServicer(self.membership)
        add_MembershipServiceServicer_to_server(self.servicer, self.server)
        self.task: asyncio.Task[None] | None = None

    @property
    def node_id(self) -> str:
        return self.identity.node_id

    async def begin(self) -> None:
        await self.server.start()
        self.task = asyncio.create_task(self.membership.run())

    def seen(self) -> dict[str, int]:
        """Names and states in this node's view."""
        return {node.name: node.state for node in self.membership.topology().nodes}

    def alive(self) -> set[str]:
        return {name for name, state in self.seen().items() if state != NODE_STATE_LOST}

    def state_reason(self, name: str) -> str:
        return next(node.state_reason for node in self.membership.topology().nodes if node.name == name)

    def tell(self, **changes: Any) -> None:
        """Changes what this node says of itself, and says it."""
        self.local = replace(self.local, **changes)
        self.membership.notify()

    async def leave(self) -> None:
        """Ends the node in good order."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.server.stop(0)
        self.identity.close()

    async def die(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ends the node without a word, as a killed process does."""
        monkeypatch.setattr(self.membership, "_say_goodbye", lambda: asyncio.sleep(0))
        await self.leave()


Start = Callable[..., Awaitable[Member]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts members; all of them end with the test."""
    members: list[Member] = []

    async def begin(
        name: str,
        *peers: str,
        cluster: str = "test",
        version: str = "0.1.0",
        identity: Identity | None = None,
        advertised: str | None = None,
        run: bool = True,
    ) -> Member:
        identity = identity or Identity(tmp_path / f"{name}-{len(members)}")
        member = Member(name, peers, identity, cluster=cluster, version=version, advertised=advertised)
        members.append(member)
        if run:
            await member.begin()
        return member

    yield begin
    for member in members:
        await member.leave()


async def until(condition: Callable[[], Any], what: str = "", seconds: float = 20.0) -> None:
    """Waits for the condition, far longer than it should take."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen: {what}")
        await asyncio.sleep(0.01)


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Awaitable[None]]:
    return until
