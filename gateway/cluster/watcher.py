"""Follows the topology as one live node sees it, and another's when that one goes away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from grpc import aio

from gateway.cluster.view import address_of
from tandem import rpc
from tandem.v1 import membership_pb2, membership_pb2_grpc

logger = logging.getLogger(__name__)

Browse = Callable[[str], AsyncIterator[str]]
"""Yields the addresses (``host:port``) at which the nodes of a cluster announce themselves, until cancelled."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0


class TopologyWatcher:
    """Keeps ``topology`` current. None until a node has answered, and again when no known node answers.

    ``channel`` leads to the node that is being followed; it is closed when that node is given up.
    """

    def __init__(self, nodes: Iterable[str], dial_seconds: float) -> None:
        self.topology: membership_pb2.Topology | None = None
        self.channel: aio.Channel | None = None
        self.problem = "no node is known yet"
        self._hints = list(dict.fromkeys(nodes))
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
        """Adds what is announced to the nodes that may be asked."""
        async for address in browse(cluster):
            if address not in self._hints:
                logger.debug("a node announces itself at %s", address)
                self._hints.append(address)
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
        return list(dict.fromkeys((*self._hints, *known)))

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
