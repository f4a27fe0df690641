"""Fixtures of the links' tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from link_peers import GrpcTransport, MemoryTransport, Transport


@pytest.fixture(params=[GrpcTransport, MemoryTransport], ids=["grpc", "memory"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    """Each implementation in turn; nothing of it is left behind."""
    before = asyncio.all_tasks()
    made: Transport = request.param()
    yield made
    await made.close()
    await _settled(before)


@pytest.fixture
async def grpc_transport() -> AsyncIterator[GrpcTransport]:
    made = GrpcTransport()
    yield made
    await made.close()


async def _settled(before: set[asyncio.Task[object]]) -> None:
    """Waits until no task of the test is left; gRPC's own go away on their own time."""

    def ours() -> set[str]:
        left = asyncio.all_tasks() - before
        return {repr(task) for task in left if "node/links" in repr(task) or "tests/" in repr(task)}

    async with asyncio.timeout(30):
        while ours():
            await asyncio.sleep(0.01)
