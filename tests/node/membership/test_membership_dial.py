"""Dialling: every address at once, the fastest wins; and the gatekeeper's word to those nobody could dial."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc import aio

from node.cluster.bell import Bell
from node.cluster.dial import FencedError, brief, connect
from node.cluster.timing import Timing
from tandem import rpc
from tandem.errors import ConflictError, PreconditionError, UnavailableError
from tandem.v1.membership_pb2 import (
    GetTopologyResponse,
    JoinRequest,
    JoinResponse,
    Node,
    ProbeLinkResponse,
    Topology,
)
from tandem.v1.membership_pb2_grpc import MembershipServiceServicer, add_MembershipServiceServicer_to_server

TIMING = Timing(probe=1.0, join=1.0)
GREETING = JoinRequest(node=Node(node_id="me", incarnation=1), cluster="c")


class Door(MembershipServiceServicer):
    """A node that answers as it is told."""

    def __init__(self, name: str, *, slow: float = 0.0, refusal: Any = None) -> None:
        self.name = name
        self.slow = slow
        self.refusal = refusal
        self.joins = 0

    async def ProbeLink(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(self.slow)
        return ProbeLinkResponse(payload=request.payload)

    async def Join(self, request: Any, context: Any) -> Any:
        self.joins += 1
        if self.refusal is not None:
            await rpc.abort(context, self.refusal)
        return JoinResponse(topology=self._topology())

    async def GetTopology(self, request: Any, context: Any) -> Any:
        return GetTopologyResponse(topology=self._topology())

    def _topology(self) -> Topology:
        return Topology(nodes=[Node(node_id=self.name)] if self.name else [])


Doors = Callable[[Door], Any]


@pytest.fixture
async def serve() -> AsyncIterator[Doors]:
    servers = []

    async def begin(door: Door) -> str:
        server = rpc.make_server()
        add_MembershipServiceServicer_to_server(door, server)  # type: ignore[arg-type]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield begin
    for server in servers:
        await server.stop(0)


async def test_the_address_that_answers_fastest_is_used(serve: Doors) -> None:
    doors = [Door("b", slow=0.3), Door("b"), Door("b", slow=0.2)]
    addresses = [await serve(door) for door in doors]
    connection = await connect(["127.0.0.1:1", *addresses], GREETING, timing=TIMING, expected="b")
    assert connection.address == addresses[1]
    assert connection.node.node_id == "b"
    assert [door.joins for door in doors] == [0, 1, 0]
    await connection.channel.close()


async def test_somebody_else_at_an_old_address_is_passed_over(serve: Doors) -> None:
    other_cluster = Door("x", refusal=PreconditionError("this is cluster 'x'"))
    addresses = [await serve(door) for door in (Door("stranger"), other_cluster, Door("b", slow=0.05))]
    connection = await connect(addresses, GREETING, timing=TIMING, expected="b")
    assert connection.address == addresses[2]
    await connection.channel.close()
    with pytest.raises(UnavailableError, match="another node answers"):
        await connect(addresses[:1], GREETING, timing=TIMING, expected="b")
    with pytest.raises(PreconditionError, match="this is cluster 'x'"):
        await connect(addresses[1:2], GREETING, timing=TIMING, expected="b")


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (ConflictError("taken"), ConflictError),
        (PreconditionError("lost", code="fenced"), FencedError),
        (UnavailableError("stopping"), UnavailableError),
    ],
)
async def test_refusals_arrive_as_errors(serve: Doors, refusal: Exception, error: type[Exception]) -> None:
    address = await serve(Door("b", refusal=refusal))
    with pytest.raises(error, match=str(refusal)) as raised:
        await connect([address], GREETING, timing=TIMING)
    if isinstance(raised.value, FencedError):
        assert raised.value.topology.nodes[0].node_id == "b"


async def test_who_does_not_say_who_it_is_is_no_member(serve: Doors) -> None:
    address = await serve(Door(""))
    with pytest.raises(PreconditionError, match="does not say who it is"):
        await connect([address], GREETING, timing=TIMING)


async def test_nobody_at_any_address() -> None:
    with pytest.raises(UnavailableError, match="no address"):
        await connect([], GREETING, timing=TIMING)
    with pytest.raises(UnavailableError, match=r"^127\.0\.0\.1:1: connection refused$") as raised:
        await connect(["127.0.0.1:1"], GREETING, timing=TIMING)
    assert brief(raised.value) == "connection refused"


async def test_a_frozen_address_does_not_hold_up_for_ever() -> None:
    # The kernel takes the connection, and no process ever looks at it.
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="no answer"):
            await connect([address], GREETING, timing=Timing(probe=0.2))


def test_errors_in_a_few_words() -> None:
    error = aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata(), details="Socket closed")
    assert brief(error) == "connection closed"
    error = aio.AioRpcError(grpc.StatusCode.INTERNAL, aio.Metadata(), aio.Metadata(), details="x" * 999)
    assert len(brief(error)) == 160


async def test_a_listener_on_loopback_cannot_join_from_another_machine(start: Any) -> None:
    a = await start("a")
    b = await start("b")
    request = JoinRequest(node=b.membership.topology().nodes[0], cluster="test")
    with pytest.raises(PreconditionError, match="listens on loopback"):
        await a.membership.join(request, "ipv4:203.0.113.9:4711")
    await a.membership.join(request, "ipv4:127.0.0.1:4711")
    assert a.alive() == {"a", "b"}


async def test_a_bell_is_never_missed() -> None:
    bell = Bell()
    seen = bell.rings
    bell.ring()
    assert await bell.wait(seen) == 1
    assert await bell.wait(1, timeout=0.01) == 1
    waiters = [asyncio.create_task(bell.wait(1, timeout=20)) for _ in range(3)]
    await asyncio.sleep(0)
    bell.ring()
    assert await asyncio.gather(*waiters) == [2, 2, 2]
