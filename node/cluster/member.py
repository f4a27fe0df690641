"""This node as a member among others: what it tells them, what it makes of what they say, and who yields."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from node.cluster.bell import Bell
from node.cluster.dial import Connection, FencedError
from node.cluster.exchange import Ending
from node.cluster.feed import TopologyFeed
from node.cluster.hints import Hints, dialable
from node.cluster.identity import Identity
from node.cluster.local import LocalNode
from node.cluster.peer import Incoming
from node.cluster.peers import Peers
from node.cluster.timing import Timing
from node.cluster.view import Admission, View
from tandem.clock import Clock
from tandem.errors import ConflictError, SettingsError
from tandem.v1.membership_pb2 import NODE_STATE_LOST, HeartbeatRequest, HeartbeatResponse, JoinRequest, Node

logger: Final = logging.getLogger(__name__)


class Member:
    """The host of this node's peers.

    ``refused`` gets the error when this node's id turns out to belong to somebody else. While ``leaving`` it joins
    nobody and hears nobody.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        cluster: str,
        local: LocalNode,
        hints: Hints,
        view: View,
        on_fenced: Callable[[str], None],
        clock: Clock,
        timing: Timing,
    ) -> None:
        self.news = Bell()
        self.leaving = False
        self.refused: asyncio.Future[None] | None = None
        self.feed = TopologyFeed(local, view)
        self.peers = Peers(self, hints, view, timing)
        self._identity = identity
        self._cluster = cluster
        self._local = local
        self._hints = hints
        self._view = view
        self._on_fenced = on_fenced
        self._clock = clock
        self._timing = timing
        self._refused_since: dict[str, float] = {}

    @property
    def node_id(self) -> str:
        """This node's id."""
        return self._identity.node_id

    def greeting(self) -> JoinRequest:
        """What this node joins others with."""
        return JoinRequest(node=self._local.beat().node, cluster=self._cluster)

    def beat(self) -> HeartbeatRequest:
        """What this node tells of itself now."""
        return self._local.beat(self._view.members())

    def addresses(self, node_id: str) -> tuple[str, ...]:
        """Where another node may be."""
        return dialable((*self._hints.addresses(node_id), *self._view.addresses(node_id)))

    def hear(self, beat: HeartbeatRequest) -> bool:
        """Takes a beat; False when its sender is no member."""
        before, _ = self._view.beats(beat.node.node_id)
        if self.leaving or not self._view.hear(beat):
            return False
        if before != beat.node.incarnation:
            logger.info("node %s began anew", beat.node.name)
        self._hints.told(beat.node)
        self._hear_of(beat.known)
        self.feed.publish()
        return True

    async def attend(
        self,
        node_id: str,
        read: Callable[[], Awaitable[Any]],
        write: Callable[[HeartbeatResponse], Awaitable[None]],
    ) -> Ending:
        """Runs the heartbeat stream that a member opened; returns why it ended.

        Cancelled when its connection breaks.
        """
        ending: Ending | None = None
        stream = Incoming(
            read=read,
            write=write,
            make=lambda: HeartbeatResponse(beat=self.beat()),
            take=self.hear,
            news=self.news,
            period=self._timing.beat,
        )
        try:
            ending = await self.peers.get(node_id).attend(stream)
            return ending
        finally:
            if ending not in (Ending.REPLACED, Ending.REFUSED):
                self.broke(node_id, "connection closed")

    def joined(self, connection: Connection) -> bool:
        """A node admitted this one; False when it may not be a member here yet."""
        node = connection.node
        if node.node_id == self.node_id or self._view.judge(node) is not Admission.ADMITTED:
            return False
        self._refused_since.pop(node.node_id, None)
        self.admit(node, connection.address)
        self._hear_of(connection.answer.topology.nodes)
        return True

    def broke(self, node_id: str, why: str) -> None:
        """A stream broke: the node is lost soon, unless it answers again."""
        self._view.broke(node_id, why)
        self.peers.poke(node_id)

    def unreachable(self, node_id: str, why: str) -> None:
        """A node did not answer at any address: it is lost at the second time, or soon if it is not heard."""
        self._refused_since.pop(node_id, None)
        if self._view.unreachable(node_id, why):
            self.lost([node_id])
        else:
            self._view.broke(node_id, why)

    def fenced(self, node_id: str, error: FencedError, incarnation: int) -> None:
        """A member had declared that incarnation of this node lost.

        One of the two has to yield: the one that sees fewer members besides, else the one that was not aware of it,
        else the one with the greater id.
        """
        if self.leaving or incarnation != self._identity.incarnation:
            return
        theirs = sum(node.state != NODE_STATE_LOST for node in error.topology.nodes)
        mine = 1 + sum(node.node_id != node_id for node in self._view.members())
        now = self._clock.monotonic()
        patient = now - self._refused_since.setdefault(node_id, now) < self._timing.stubborn
        mutual = self._view.fenced(node_id)
        stronger = mine > theirs or (mine == theirs and mutual and self.node_id < node_id)
        if not stronger or not patient:
            self.begin_anew(error.message)
        elif not mutual and self._view.lose(node_id, "it was cut off and gave this node up"):
            self.lost([node_id])

    def conflict(self, error: ConflictError, incarnation: int) -> None:
        """That incarnation of this node was refused because its id belongs to somebody else: ``run`` ends with that."""
        # An answer to an older greeting may mean this very process.
        if incarnation == self._identity.incarnation and self.refused is not None and not self.refused.done():
            self.refused.set_exception(error)

    def admit(self, node: Node, address: str | None = None) -> None:
        """Takes a node in that was found fit; ``address`` is where it answered, if it was this one that asked."""
        anew = self._view.admit(node)
        if address is not None:
            self._view.prefer(node.node_id, address)
        self._hints.told(node, *([address] if address is not None else []))
        if anew:
            logger.info("node %s (%s) is a member", node.name, node.node_id)
            if address is None:
                self.peers.get(node.node_id).reset()
            self.news.ring()
        self.feed.publish()

    def lost(self, node_ids: Sequence[str]) -> None:
        """The view has declared nodes lost: they are dialled anew."""
        for node in self._view.nodes():
            if node.node_id in node_ids:
                logger.warning("node %s (%s): %s", node.name, node.node_id, node.state_reason)
                self.peers.reset(node.node_id)
        if node_ids:
            self.feed.publish()

    def begin_anew(self, reason: str) -> None:
        """Takes a new incarnation, has the work of the old one dropped, and joins everybody again."""
        self._view.forgive()
        self._view.excuse()
        self._refused_since.clear()
        self._keep(self._identity.renew)
        logger.warning("this node begins anew: %s", reason)
        self._on_fenced(reason)
        self.peers.reset_all()
        self.feed.publish()

    def remember(self) -> None:
        """Keeps whom this node is with, for its next start."""
        self._keep(lambda: self._identity.remember(node.node_id for node in self._view.members()))

    def _hear_of(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            # Who left comes back by itself; members that did not hear of the departure yet still speak of it.
            if node.node_id != self.node_id and node.state != NODE_STATE_LOST and not self._view.departed(node.node_id):
                self._hints.told(node)

    def _keep(self, write: Callable[[], object]) -> None:
        try:
            write()
        except SettingsError as error:
            # It stands in memory; after the next start an incarnation comes from the clock, which is greater.
            logger.error("%s", error.message)
