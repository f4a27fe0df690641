"""How a command finds a node to ask: the one it is told, else the one on this machine, else one that mDNS hears."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from grpc import aio

from tandem import discovery, rpc
from tandem.errors import UnavailableError
from tandem.settings import DEFAULT_NODE, GatewaySettings, add_flags, given_flags, join_address, load_settings
from tandem.v1 import (
    generation_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
    model_pb2_grpc,
)

TOLD_DEADLINE: Final = 5.0
"""Seconds in which a node that was named must answer."""
GUESSED_DEADLINE: Final = 1.0
"""Seconds in which a node that was not named must answer, before the next place is tried."""
BROWSE_SECONDS: Final = 3.0
"""Seconds in which mDNS must hear of a node."""

Browse = Callable[[str], AsyncGenerator[str, None]]
"""Yields the addresses at which nodes of a cluster announce themselves, as they are heard, until cancelled."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A node that answers, and the services to ask it."""

    address: str
    channel: aio.Channel

    @property
    def membership(self) -> membership_pb2_grpc.MembershipServiceAsyncStub:
        """Who is in the cluster."""
        return membership_pb2_grpc.MembershipServiceStub(self.channel)

    @property
    def models(self) -> model_pb2_grpc.ModelServiceAsyncStub:
        """What is loaded and what could be."""
        return model_pb2_grpc.ModelServiceStub(self.channel)

    @property
    def generation(self) -> generation_pb2_grpc.GenerationServiceAsyncStub:
        """Asks a model."""
        return generation_pb2_grpc.GenerationServiceStub(self.channel)

    async def topology(self) -> membership_pb2.Topology:
        """The node's view of the cluster."""
        response = await self.membership.GetTopology(membership_pb2.GetTopologyRequest(), timeout=rpc.UNARY_DEADLINE)
        return response.topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which node to ask."""
    add_flags(parser, GatewaySettings, only=("nodes", "cluster", "mdns"))


@asynccontextmanager
async def connect(arguments: argparse.Namespace) -> AsyncIterator[Connection]:
    """A connection to the first node that answers, closed at the end.

    Raises ``UnavailableError`` when none does; an RPC that fails inside leaves as the error of ours that it stands for.
    """
    settings = load_settings(GatewaySettings, given_flags(arguments, GatewaySettings))
    connection = await find(settings)
    async with connection.channel:
        try:
            yield connection
        except aio.AioRpcError as error:
            raise rpc.from_rpc_error(error) from None


async def announced(cluster: str) -> AsyncGenerator[str, None]:
    """The addresses at which nodes of a cluster announce themselves by mDNS, as they are heard."""
    async with aclosing(discovery.browse(cluster)) as nodes:
        async for node in nodes:
            for host in node.addresses:
                yield join_address(host, node.port)


async def find(settings: GatewaySettings, browse: Browse = announced) -> Connection:
    """The first node that answers, in the order of this module's first line; ``UnavailableError`` when none does."""
    if settings.nodes:
        if connection := await first_of(settings.nodes, TOLD_DEADLINE):
            return connection
        raise UnavailableError(f"no node answers at {', '.join(settings.nodes)}; `tandem node` starts one")
    if connection := await first_of((DEFAULT_NODE,), GUESSED_DEADLINE):
        return connection
    looked = f"at {DEFAULT_NODE}"
    if settings.mdns:
        looked += f" nor by mDNS in cluster {settings.cluster!r}"
        try:
            async with asyncio.timeout(BROWSE_SECONDS):
                async with aclosing(browse(settings.cluster)) as addresses:
                    async for address in addresses:
                        if connection := await first_of((address,), GUESSED_DEADLINE):
                            return connection
        except TimeoutError:
            pass
    raise UnavailableError(f"no node found {looked}; `tandem node` starts one, --node HOST:PORT names one")


async def first_of(addresses: Iterable[str], deadline: float) -> Connection | None:
    """A connection to the first address in order that is connected within ``deadline`` seconds; ``None`` if none is."""
    for address in addresses:
        channel = rpc.make_channel(address)
        try:
            await asyncio.wait_for(channel.channel_ready(), deadline)
        except TimeoutError:
            await channel.close()
        except BaseException:
            await channel.close()
            raise
        else:
            return Connection(address, channel)
    return None
