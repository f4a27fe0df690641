"""One other node, as this one talks to it: a channel that is dialled again for ever, and one heartbeat stream."""

from __future__ import annotations

import logging
import random
import time
from typing import Final, Protocol

from grpc import aio

from node.cluster.bell import Bell
from node.cluster.dial import Connection, FencedError, brief, connect
from node.cluster.exchange import Ending, Exchange
from node.cluster.timing import Timing
from tandem.errors import ConflictError, TandemError, UnavailableError
from tandem.v1.membership_pb2 import HeartbeatRequest, HeartbeatResponse, JoinRequest
from tandem.v1.membership_pb2_grpc import MembershipServiceStub

logger: Final = logging.getLogger(__name__)

_SETTLED: Final = 1.0
"""Seconds that a connection has to last so that its end is no reason to pause."""

Incoming = Exchange[HeartbeatResponse, HeartbeatRequest]
Outgoing = Exchange[HeartbeatRequest, HeartbeatResponse]


class Host(Protocol):
    """The node that a peer belongs to."""

    @property
    def node_id(self) -> str:
        """Its id."""

    @property
    def leaving(self) -> bool:
        """Whether it joins nobody any more."""

    @property
    def news(self) -> Bell:
        """Rings when a beat should go out at once."""

    def greeting(self) -> JoinRequest:
        """What it joins others with."""

    def beat(self) -> HeartbeatRequest:
        """What it tells of itself now."""

    def addresses(self, node_id: str) -> tuple[str, ...]:
        """Where another node may be."""

    def hear(self, beat: HeartbeatRequest) -> bool:
        """Takes a beat of another node; False when that one is no member."""

    def joined(self, connection: Connection) -> bool:
        """Another node admitted this one; False when it may not be a member here yet."""

    def broke(self, node_id: str, why: str) -> None:
        """The stream with another node broke."""

    def unreachable(self, node_id: str, why: str) -> None:
        """Another node did not answer at any address, and there is no stream with it."""

    def fenced(self, node_id: str, error: FencedError, incarnation: int) -> None:
        """Another node had declared that incarnation of this one lost."""

    def conflict(self, error: ConflictError, incarnation: int) -> None:
        """That incarnation of this node was refused, because its id belongs to somebody else."""


class Backoff:
    """Pauses that double up to a cap, a little random so that nodes do not dial in step."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._pause = timing.retry

    def reset(self) -> None:
        """Begins anew with the shortest pause."""
        self._pause = self._timing.retry

    def next(self) -> float:
        """Seconds to wait now."""
        pause, self._pause = self._pause, min(self._pause * 2, self._timing.retry_cap)
        return pause * random.uniform(0.8, 1.2)


class Peer:
    """Keeps one channel to one other node, and one heartbeat stream in either direction.

    Where both nodes opened a stream, the one of the node with the smaller id stays.
    """

    def __init__(self, node_id: str, host: Host, timing: Timing) -> None:
        self.node_id = node_id
        self.connection: Connection | None = None
        self.dialling = False
        self._host = host
        self._timing = timing
        self._poked = Bell()
        self._streams = Bell()
        self._incoming: Incoming | None = None
        self._outgoing: Outgoing | None = None
        self._complaint = ""

    def poke(self) -> None:
        """There is news about the node: dial now instead of at the end of a pause."""
        self._poked.ring()

    def reset(self) -> None:
        """Ends what runs with the node, because it or this node begins anew, and dials again."""
        for exchange in (self._incoming, self._outgoing):
            if exchange is not None:
                exchange.end(Ending.REFUSED)
        self._streams.ring()
        self.poke()

    async def run(self) -> None:
        """Dials, beats, and dials again, until this node leaves. Cancelling closes the channel."""
        backoff = Backoff(self._timing)
        try:
            while not self._host.leaving:
                seen = self._poked.rings
                self.dialling = True
                reached = await self._dial()
                self.dialling = False
                if reached:
                    began = time.monotonic()
                    await self._stay()
                    if time.monotonic() - began > _SETTLED:
                        backoff.reset()
                        continue
                if await self._poked.wait(seen, backoff.next()) != seen:
                    backoff.reset()
        finally:
            await self._replace(None)

    async def attend(self, incoming: Incoming) -> Ending:
        """Runs a stream that the node opened, unless this node's own is to stay; returns why it ended.

        Raises ``AioRpcError`` when it breaks.
        """
        mine = self._outgoing
        if mine is not None and self._first and self._fresh(mine):
            return Ending.REPLACED
        if self._incoming is not None:
            self._incoming.end(Ending.REPLACED)
        self._incoming = incoming
        self._streams.ring()
        if mine is not None:
            mine.end(Ending.REPLACED)
        try:
            return await incoming.run()
        finally:
            if self._incoming is incoming:
                self._incoming = None
                self._streams.ring()

    def _attended(self) -> bool:
        return self._incoming is not None

    @property
    def _first(self) -> bool:
        return self._host.node_id < self.node_id

    def _fresh(self, exchange: Outgoing) -> bool:
        return exchange.age() < 3 * self._timing.beat

    async def _dial(self) -> bool:
        """Opens the channel by the address that answers fastest; False when there is none or the node refuses."""
        connection = None
        addresses, greeting = self._host.addresses(self.node_id), self._host.greeting()
        try:
            found = await connect(addresses, greeting, timing=self._timing, expected=self.node_id)
            if self._host.joined(found):
                connection, self._complaint = found, ""
            else:
                await found.channel.close()
        except ConflictError as error:
            self._host.conflict(error, greeting.node.incarnation)
        except FencedError as error:
            self._host.fenced(self.node_id, error, greeting.node.incarnation)
        except TandemError as error:
            self._complain(error)
            if not self._attended():
                self._host.unreachable(self.node_id, brief(error))
        await self._replace(connection)
        return connection is not None

    async def _stay(self) -> None:
        """Beats over the channel until the connection breaks or has to begin anew."""
        while self.connection is not None:
            seen = self._streams.rings
            if self._attended() and not self._first:
                await self._streams.wait(seen)
                if not self._attended():
                    return
                continue
            try:
                ending = await self._beat(self.connection.channel)
            except aio.AioRpcError as error:
                self._host.broke(self.node_id, brief(error))
                return
            if ending is Ending.REFUSED:
                return
            if ending is Ending.CLOSED:
                # The node keeps a stream of its own, which is here or on its way.
                seen = self._streams.rings
                if not self._attended():
                    await self._streams.wait(seen, 2 * self._timing.beat)

    async def _beat(self, channel: aio.Channel) -> Ending:
        call = MembershipServiceStub(channel).Heartbeat()
        exchange = Outgoing(
            read=call.read,
            write=call.write,
            make=self._host.beat,
            take=self._take,
            news=self._host.news,
            period=self._timing.beat,
        )
        self._outgoing = exchange
        try:
            return await exchange.run()
        finally:
            self._outgoing = None
            call.cancel()

    def _take(self, answer: HeartbeatResponse) -> bool:
        return not answer.fenced and self._host.hear(answer.beat)

    async def _replace(self, connection: Connection | None) -> None:
        old, self.connection = self.connection, connection
        if old is not None:
            await old.channel.close()

    def _complain(self, error: TandemError) -> None:
        """Says each thing once: a peer that is away is dialled for ever."""
        if error.message != self._complaint:
            self._complaint = error.message
            level = logging.INFO if isinstance(error, UnavailableError) else logging.WARNING
            logger.log(level, "no connection to node %s: %s", self.node_id, error.message)
