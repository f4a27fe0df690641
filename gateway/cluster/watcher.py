"""Follows the topology as one live node sees it, and another's when that one goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Final

from grpc import aio

from gateway.cluster.view import address_of
from tandem import rpc
from tandem.discovery import Found
from tandem.settings import join_address
from tandem.v1 import membership_pb2, membership_pb2_grpc

logger = logging.getLogger(__name__)

Browse = Callable[[str], AsyncGenerator[Found]]
"""Yields the nodes of a cluster as they announce themselves, without end."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
_MAX_FOUND: Final = 256


class TopologyWatcher:
    """Keeps ``topology`` current. None until a node has answered, and again when no known node answers.

    ``channel`` leads to the node that is being followed; it is closed when that node is given up.
    """

    def __init__(self, nodes: Iterable[str], dial_seconds: float) -> None:
        self.topology: membership_pb2.Topology | None = None
        self.channel: aio.Channel | None = None
        self.problem = "no node is known yet"
        self._nodes = tuple(nodes)
        self._found: dict[str, tuple[str, ...]] = {}
        self._dial_seconds = dial_seconds
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Follows one node after the other, for ever."""
        pause = _FIRST_PAUSE
        while True:
            answered = False
            for address in self._candidates():
                answered = await self._follow(address) or answered
            if answered:
                pause = _FIRST_PAUSE
            else:
                self._set(None)
            await self._wait_for_change(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def follow_announcements(self, browse: Browse, cluster: str) -> None:
        """Adds what is announced to the nodes that may be asked; of very many, the latest."""
        async with aclosing(browse(cluster)) as announcements:
            async for found in announcements:
                addresses = tuple(join_address(host, found.port) for host in found.addresses)
                logger.debug("%s announces itself at %s", found.node_id, ", ".join(addresses))
                self._found.pop(found.node_id, None)
                self._found[found.node_id] = addresses
                if len(self._found) > _MAX_FOUND:
                    del self._found[next(iter(self._found))]
                self._notify()

    async def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits for a change that makes ``condition`` true; False when the time is over."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            return condition()
        return True

    def _candidates(self) -> list[str]:
        nodes = self.topology.nodes if self.topology is not None else ()
        known = (address_of(endpoint) for node in nodes for endpoint in node.endpoints)
        found = (address for addresses in self._found.values() for address in addresses)
        return list(dict.fromkeys((*self._nodes, *found, *known)))

    async def _follow(self, address: str) -> bool:
        """Follows one node until its stream breaks; whether it answered at all."""
        answered = False
        async with rpc.make_channel(address) as channel:
            call = membership_pb2_grpc.MembershipServiceStub(channel).WatchTopology(
                membership_pb2.WatchTopologyRequest()
            )
            try:
                async with asyncio.timeout(self._dial_seconds) as deadline:
                    while isinstance(message := await call.read(), membership_pb2.WatchTopologyResponse):
                        deadline.reschedule(None)
                        answered = True
                        self.channel = channel
                        self._set(message.topology)
                self.problem = f"the node at {address} ended its stream"
            except TimeoutError:
                self.problem = f"the node at {address} does not answer"
            except aio.AioRpcError as error:
                self.problem = f"the node at {address} does not answer ({error.details()})"
            finally:
                self.channel = None
                call.cancel()
        if answered:
            logger.info("%s", self.problem)
        return answered

    def _set(self, topology: membership_pb2.Topology | None) -> None:
        self.topology = topology
        self._notify()

    def _notify(self) -> None:
        """Wakes all who wait now; those who come later wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            pass
