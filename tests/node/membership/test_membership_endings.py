"""How heartbeat streams and members end: nothing is printed, and what comes late harms nobody."""

from __future__ import annotations

import asyncio
import logging
import uuid
from pathlib import Path
from typing import Any

import pytest

from node.cluster.bell import Bell
from node.cluster.exchange import Ending, Exchange
from node.cluster.identity import Identity
from tandem import rpc
from tandem.v1.membership_pb2 import HeartbeatRequest, HeartbeatResponse, JoinRequest, LeaveRequest, Node
from tandem.v1.membership_pb2_grpc import MembershipServiceStub
from tandem.v1.types_pb2 import Endpoint


class SlowPipe:
    """A stream whose writes take until they are let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.written = 0
        self.torn = 0

    async def read(self) -> HeartbeatRequest:
        await asyncio.Event().wait()
        raise AssertionError("nothing comes")

    async def write(self, answer: HeartbeatResponse) -> None:
        self.begun.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.torn += 1
            raise
        self.written += 1

    def exchange(self) -> Exchange[HeartbeatResponse, HeartbeatRequest]:
        return Exchange(
            read=self.read, write=self.write, make=HeartbeatResponse, take=lambda beat: True, news=Bell(), period=0.1
        )


async def test_a_stream_does_not_end_in_the_middle_of_a_write() -> None:
    """gRPC would send its status after a half-sent message, fail, and log a traceback."""
    pipe = SlowPipe()
    exchange = pipe.exchange()
    running = asyncio.create_task(exchange.run())
    await pipe.begun.wait()
    exchange.end(Ending.REPLACED)
    await asyncio.wait([running], timeout=0.1)
    assert not running.done()
    pipe.go_on.set()
    assert await running is Ending.REPLACED
    assert (pipe.written, pipe.torn) == (1, 0)


async def test_a_write_that_never_ends_is_given_up() -> None:
    pipe = SlowPipe()
    exchange = pipe.exchange()
    running = asyncio.create_task(exchange.run())
    await pipe.begun.wait()
    exchange.end(Ending.REFUSED)
    async with asyncio.timeout(5):
        assert await running is Ending.REFUSED
    await asyncio.sleep(0)
    assert (pipe.written, pipe.torn) == (0, 1)


@pytest.mark.parametrize("end", ["replaced", "cancelled", "half closed", "closed", "dropped"])
async def test_no_end_of_a_heartbeat_stream_prints_anything(
    start: Any, until: Any, end: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    a = await start("a")
    with caplog.at_level(logging.WARNING):
        for turn in range(20):
            node = stranger(turn)
            channel = rpc.make_channel(a.address)
            stub = MembershipServiceStub(channel)
            await stub.Join(JoinRequest(node=node, cluster="test"))
            calls = [stub.Heartbeat() for _ in range(2 if end == "replaced" else 1)]
            for call in calls:
                await call.write(HeartbeatRequest(node=node))
            if turn % 2:
                await calls[-1].read()
            if end == "half closed":
                await calls[0].done_writing()
                await asyncio.sleep(0.01)
            if end == "closed":
                await channel.close()
            for call in calls:
                if end != "dropped":
                    call.cancel()
            del calls, call, stub
            await channel.close()
        await until(lambda: a.servicer.streams == 0, "all streams over")
        await a.leave()
    noise = [record for record in caplog.records if record.name.startswith(("grpc", "asyncio"))]
    assert noise == []
    assert "Traceback" not in capfd.readouterr().err


async def test_a_goodbye_that_comes_late_does_not_remove_who_is_back(start: Any, until: Any, tmp_path: Path) -> None:
    a = await start("a")
    b = await start("b", a.address)
    await until(lambda: a.alive() == b.alive() == {"a", "b"})
    old = b.identity.incarnation
    await b.leave()
    assert a.alive() == {"a"}
    again = await start("b", a.address, identity=Identity(tmp_path / "b-1"))
    assert again.identity.incarnation > old
    await until(lambda: a.alive() == again.alive() == {"a", "b"})
    async with rpc.make_channel(a.address) as channel:
        leave = MembershipServiceStub(channel).Leave
        await leave(LeaveRequest(node_id=again.node_id, incarnation=old))
        await leave(LeaveRequest(node_id=again.node_id))
        assert a.alive() == {"a", "b"}
        await leave(LeaveRequest(node_id=again.node_id, incarnation=again.identity.incarnation))
    assert a.alive() == {"a"}


def stranger(number: int) -> Node:
    """A node that nobody can dial."""
    ways = [Endpoint(host="127.0.0.1", port=1)]
    return Node(node_id=str(uuid.uuid4()), incarnation=1, name=f"x{number}", version="0.1.0", endpoints=ways)
