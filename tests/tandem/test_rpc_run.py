"""A program that ends leaves nothing on the screen, whatever its gRPC handlers do just then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tandem import rpc
from tandem.v1 import membership_pb2 as pb
from tandem.v1.membership_pb2_grpc import (
    MembershipServiceServicer,
    MembershipServiceStub,
    add_MembershipServiceServicer_to_server,
)


class SlowToEnd(MembershipServiceServicer):
    """Takes a moment for what it has to free when its caller goes."""

    def __init__(self) -> None:
        self.freed = 0

    async def Heartbeat(self, request_iterator: AsyncIterator[pb.HeartbeatRequest], context: Any) -> None:
        try:
            await context.read()
            await context.write(pb.HeartbeatResponse())
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            self.freed += 1


async def serve_and_end(servicer: SlowToEnd, streams: int) -> str:
    server = rpc.make_server()
    port = server.add_insecure_port("127.0.0.1:0")
    add_MembershipServiceServicer_to_server(servicer, server)
    await server.start()
    async with rpc.make_channel(f"127.0.0.1:{port}") as channel:
        calls = [MembershipServiceStub(channel).Heartbeat() for _ in range(streams)]
        for call in calls:
            await call.write(pb.HeartbeatRequest())
            await call.read()
        for call in calls:
            call.cancel()
        await server.stop(None)
    return "done"


def test_handlers_that_are_ending_end_before_the_loop_does(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    servicer = SlowToEnd()
    with caplog.at_level(logging.WARNING):
        assert rpc.run(serve_and_end(servicer, 8)) == "done"
    assert servicer.freed == 8
    assert caplog.records == []
    assert capfd.readouterr().err == ""


def test_what_never_ends_is_not_waited_for_long() -> None:
    async def main() -> asyncio.Task[Any]:
        return asyncio.create_task(asyncio.Event().wait())

    begin = time.monotonic()
    assert rpc.run(main()).cancelled()
    assert time.monotonic() - begin < 5


def test_an_error_of_the_program_stays_its_error() -> None:
    async def fail() -> None:
        raise ValueError("as it was")

    with pytest.raises(ValueError, match="as it was"):
        rpc.run(fail())
