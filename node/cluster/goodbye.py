"""How a node leaves: every member is told, so that none has to notice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from grpc import aio

from node.cluster.dial import Connection
from tandem import rpc
from tandem.v1.membership_pb2 import LeaveRequest
from tandem.v1.membership_pb2_grpc import MembershipServiceStub

logger: Final = logging.getLogger(__name__)


async def say_goodbye(
    request: LeaveRequest,
    members: Iterable[str],
    *,
    connection: Callable[[str], Connection | None],
    addresses: Callable[[str], Iterable[str]],
    deadline: float,
) -> None:
    """Tells the members, by their ids, that this node leaves. Those that do not answer within ``deadline`` seconds
    will notice."""

    async def by(channel: aio.Channel) -> None:
        try:
            await MembershipServiceStub(channel).Leave(request, timeout=deadline)
        except aio.AioRpcError as error:
            logger.debug("a goodbye did not arrive: %s", error.details())

    async def dial(address: str) -> None:
        async with rpc.make_channel(address) as channel:
            await by(channel)

    async def tell(node_id: str) -> None:
        if (there := connection(node_id)) is not None:
            await by(there.channel)
        else:
            # The member came to this node, and the way back to it is not open yet.
            await asyncio.gather(*(dial(address) for address in addresses(node_id)))

    await asyncio.gather(*(tell(node_id) for node_id in members))
