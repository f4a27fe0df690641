"""Membership: this node among the others. No leader: every node keeps its own view and answers for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from grpc import aio

from node.cluster.bell import Bell
from node.cluster.dial import FENCED, Connection, FencedError
from node.cluster.exchange import Ending
from node.cluster.gatekeeper import Gatekeeper, NamesakeError
from node.cluster.hints import Hints, dialable
from node.cluster.identity import Identity
from node.cluster.introduction import introduce
from node.cluster.local import LocalNode, LocalState
from node.cluster.peer import Incoming, Peer
from node.cluster.timing import Timing
from node.cluster.view import Admission, View
from tandem import rpc
from tandem.clock import Clock, SleepWatch
from tandem.errors import ConflictError, NotFoundError, PreconditionError, SettingsError, UnavailableError, first_of
from tandem.v1.membership_pb2 import (
    NODE_STATE_LOST,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    Node,
    Topology,
)
from tandem.v1.membership_pb2_grpc import MembershipServiceStub
from tandem.v1.types_pb2 import Endpoint

__all__ = ["LocalState", "Membership"]

logger: Final = logging.getLogger(__name__)


class Membership:
    """Joins the nodes that hints lead to, keeps beating with them, and knows who is there.

    The gRPC server of this node must be up, with a servicer that hands Join, Leave and Heartbeat on to here, before
    ``run`` begins. Everything runs on one event loop.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        name: str,
        cluster: str,
        endpoints: Callable[[], Sequence[Endpoint]],
        local: Callable[[], LocalState],
        hints: Hints,
        version: str,
        on_fenced: Callable[[str], None] = lambda reason: None,
        clock: Clock | None = None,
        timing: Timing | None = None,
    ) -> None:
        """``endpoints`` tells this node's ways in and is asked again now and then, because addresses change.

        ``local`` is called for each beat and must be quick. ``on_fenced`` is called, with the reason, whenever this
        node begins a new incarnation because others gave it up or because it slept: all work of the old one is void
        and must be dropped. It must not block and must not raise.
        """
        self.news = Bell()
        self._clock = clock or Clock()
        self._timing = timing or Timing()
        self._identity = identity
        self._cluster = cluster
        self._local = LocalNode(
            identity=identity,
            name=name,
            version=version,
            endpoints=endpoints,
            state=local,
            clock=self._clock,
            timing=self._timing,
        )
        self._hints = hints
        self._on_fenced = on_fenced
        self._view = View(clock=self._clock, timing=self._timing)
        self._gatekeeper = Gatekeeper(
            cluster=cluster, local=self._local, view=self._view, clock=self._clock, timing=self._timing
        )
        self._topology = Topology()
        self._changed = Bell()
        self._peers: dict[str, tuple[Peer, asyncio.Task[None]]] = {}
        self._refused_since: dict[str, float] = {}
        self._group: asyncio.TaskGroup | None = None
        self._failure: asyncio.Future[None] | None = None
        self._joiners: list[asyncio.Task[None]] = []
        self.leaving = False

    @property
    def node_id(self) -> str:
        """This node's id."""
        return self._identity.node_id

    # What the node asks.

    async def run(self) -> None:
        """Is a member until cancelled; then tells the others that it leaves, within a second.

        Raises ``ConflictError`` when this node's id belongs to another live process: nothing of this node stays in
        the cluster then.
        """
        self._failure = asyncio.get_running_loop().create_future()
        self.leaving = False
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._publish()
                group.create_task(self._watch_clock())
                self._joiners = [group.create_task(self._follow_hints())]
                for address in self._hints.peers:
                    meeting = introduce(
                        address, self, self._hints, live=self._view.live, changed=self._changed, timing=self._timing
                    )
                    self._joiners.append(group.create_task(meeting))
                try:
                    await self._failure
                except asyncio.CancelledError:
                    await self._say_goodbye()
                    raise
        except ExceptionGroup as problems:
            conflicts = problems.subgroup(ConflictError)
            if conflicts is None:
                raise
            raise first_of(conflicts) from None
        finally:
            self.leaving = True
            self._group = None
            self._peers.clear()
            self._changed.ring()

    def topology(self) -> Topology:
        """This node's view: itself first, then the others by name, then the pipelines. Not to be changed."""
        self._publish()
        return self._topology

    async def watch(self) -> AsyncIterator[Topology]:
        """The view as it is, then again after each change; who reads slowly gets the newest. Ends when ``run`` does."""
        version = -1
        while not self.leaving:
            seen = self._changed.rings
            topology = self.topology()
            if topology.version != version:
                version = topology.version
                yield topology
            else:
                await self._changed.wait(seen)

    def notify(self) -> None:
        """Something that beats tell has changed: sends one to every member now."""
        self._publish()
        self.news.ring()

    def channel(self, node_id: str) -> aio.Channel:
        """The channel to a live member, by the address that answered fastest. It is closed when the member is lost.

        Raises ``NotFoundError`` for a node that is no member, ``UnavailableError`` for one that is lost or to which
        the connection is being made.
        """
        return self._connection(node_id).channel

    def address(self, node_id: str) -> str:
        """The address of a live member that answered fastest, for other connections. Raises like ``channel``."""
        return self._connection(node_id).address

    def node(self, node_id: str) -> Node:
        """A node in this one's view, itself included. Raises ``NotFoundError``."""
        for node in self.topology().nodes:
            if node.node_id == node_id:
                return node
        raise NotFoundError(f"there is no node {node_id} in cluster {self._cluster!r}")

    # What other nodes ask, by way of the servicer.

    async def join(self, request: JoinRequest, caller: str) -> JoinResponse:
        """Decides about a joiner; ``caller`` is gRPC's name for where it calls from.

        Raises ``ConflictError`` for an id that is in use, ``PreconditionError`` for another cluster or version, for a
        node that nobody could dial, and (code ``fenced``) for an incarnation that was declared lost.
        """
        if self._group is None or self.leaving:
            raise self._not_running()
        try:
            await self._gatekeeper.check(request, caller)
        except NamesakeError as error:
            self.conflict(error, self._identity.incarnation)
            raise UnavailableError(f"node {self._local.name} has the same id and stops") from error
        except PreconditionError as error:
            if error.code == FENCED:
                # It is back. Dialling it tells which of the two yields.
                self._peer(request.node.node_id).poke()
            raise
        if request.node.node_id != self.node_id:
            self._admit(request.node)
        return JoinResponse(topology=self.topology())

    async def leave(self, request: LeaveRequest) -> None:
        """A member leaves: it is gone from the view at once. For strangers this does nothing."""
        self._hints.forget(request.node_id)
        if self._view.remove(request.node_id):
            logger.info("node %s left", request.node_id)
            self._dismiss(request.node_id)
            self._publish()

    async def heartbeat(
        self, read: Callable[[], Awaitable[Any]], write: Callable[[HeartbeatResponse], Awaitable[None]]
    ) -> None:
        """Runs one heartbeat stream that another node opened; returns when it ends in good order.

        Raises ``PreconditionError`` when it comes from nobody who joined. Cancelled when its connection breaks.
        """
        try:
            async with asyncio.timeout(self._timing.silence):
                first = await read()
        except TimeoutError:
            raise PreconditionError(f"no heartbeat for {self._timing.silence:g} s") from None
        if first is aio.EOF:
            return
        node_id = first.node.node_id
        fenced = self._view.fenced(node_id)
        if self.leaving or not (fenced or self.hear(first)):
            raise PreconditionError("heartbeats are for members: join first")
        ending: Ending | None = Ending.REFUSED if fenced else None
        if not fenced:
            try:
                ending = await self._peer(node_id).attend(
                    Incoming(
                        read=read,
                        write=write,
                        make=lambda: HeartbeatResponse(beat=self.beat()),
                        take=self.hear,
                        news=self.news,
                        period=self._timing.beat,
                    )
                )
            finally:
                if ending not in (Ending.REPLACED, Ending.REFUSED):
                    self.broke(node_id, "connection closed")
        if ending is Ending.REFUSED and self._view.fenced(node_id):
            await write(HeartbeatResponse(beat=self.beat(), fenced=True))

    # What peers ask of their host.

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
        self._publish()
        return True

    def joined(self, connection: Connection) -> bool:
        """A node admitted this one; False when it may not be a member here yet."""
        node = connection.node
        if node.node_id == self.node_id or self._view.judge(node) is not Admission.ADMITTED:
            return False
        self._refused_since.pop(node.node_id, None)
        self._admit(node, connection.address)
        self._hear_of(connection.answer.topology.nodes)
        return True

    def broke(self, node_id: str, why: str) -> None:
        """A stream broke: the node is lost soon, unless it answers again."""
        self._view.broke(node_id, why)
        if node_id in self._peers:
            self._peers[node_id][0].poke()

    def unreachable(self, node_id: str, why: str) -> None:
        """A node did not answer at any address: it is lost at the second time, or soon if it is not heard."""
        self._refused_since.pop(node_id, None)
        if self._view.unreachable(node_id, why):
            self._lost([node_id])
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
            self._begin_anew(error.message)
        elif not mutual and self._view.lose(node_id, "it was cut off and gave this node up"):
            self._lost([node_id])

    def conflict(self, error: ConflictError, incarnation: int) -> None:
        """That incarnation of this node was refused because its id belongs to somebody else: ``run`` ends with that."""
        # An answer to an older greeting may mean this very process.
        if incarnation == self._identity.incarnation and self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    # Inside.

    def _admit(self, node: Node, address: str | None = None) -> None:
        anew = self._view.admit(node)
        if address is not None:
            self._view.prefer(node.node_id, address)
        self._hints.told(node, *([address] if address is not None else []))
        if anew:
            logger.info("node %s (%s) is a member", node.name, node.node_id)
            if address is None:
                self._peer(node.node_id).reset()
            self.news.ring()
        self._publish()

    def _hear_of(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            # Who left comes back by itself; members that did not hear of the departure yet still speak of it.
            if node.node_id != self.node_id and node.state != NODE_STATE_LOST and not self._view.departed(node.node_id):
                self._hints.told(node)

    def _peer(self, node_id: str) -> Peer:
        """The peer for a node, begun if need be."""
        if node_id not in self._peers:
            if self._group is None:
                raise self._not_running()
            peer = Peer(node_id, self, self._timing)
            self._peers[node_id] = peer, self._group.create_task(peer.run())
        return self._peers[node_id][0]

    def _dismiss(self, node_id: str) -> None:
        if node_id in self._peers:
            peer, task = self._peers.pop(node_id)
            peer.reset()
            task.cancel()

    def _connection(self, node_id: str) -> Connection:
        if not self._view.known(node_id):
            raise NotFoundError(f"there is no other node {node_id} in cluster {self._cluster!r}")
        peer = self._peers[node_id][0] if node_id in self._peers else None
        if not self._view.live(node_id) or peer is None or peer.connection is None:
            node = self.node(node_id)
            raise UnavailableError(f"node {node.name} cannot be reached: {node.state_reason or 'no connection yet'}")
        return peer.connection

    async def _follow_hints(self) -> None:
        """Begins a peer for each node that there is a hint about, and ends those that nobody speaks of any more."""
        seen = -1
        while True:
            # This node's own id is among them when somebody else announces it, and dialling that settles who goes.
            wanted = self._hints.nodes() | self._view.ids()
            for node_id in wanted:
                self._peer(node_id)
            for node_id in self._peers.keys() - wanted:
                self._dismiss(node_id)
            rings = await self._hints.changed.wait(seen, self._timing.interfaces)
            if rings != seen:
                for peer, _ in self._peers.values():
                    peer.poke()
            seen = rings

    async def _watch_clock(self) -> None:
        """Declares nodes lost, notices that this process slept, and follows the machine's addresses."""
        watch = SleepWatch(self._clock)
        while True:
            await asyncio.sleep(self._timing.tick)
            gap = watch.gap()
            slept = gap > self._timing.asleep
            if self._local.look(now=slept):
                self.news.ring()
            if slept:
                self._begin_anew(f"this process did not run for {gap:.0f} s")
            elif gap > self._timing.stalled:
                self._view.excuse()
            self._lost(self._view.tick())
            self._publish()

    def _lost(self, node_ids: Sequence[str]) -> None:
        for node_id in node_ids:
            logger.warning("node %s: %s", node_id, self.node(node_id).state_reason)
            if node_id in self._peers:
                self._peers[node_id][0].reset()
        if node_ids:
            self._publish()

    def _begin_anew(self, reason: str) -> None:
        """Takes a new incarnation, has the work of the old one dropped, and joins everybody again."""
        self._view.forgive()
        self._view.excuse()
        self._refused_since.clear()
        try:
            self._identity.renew()
        except SettingsError as error:
            # It grew in memory; the next start takes a greater one from the clock.
            logger.error("%s", error.message)
        logger.warning("this node begins anew: %s", reason)
        self._on_fenced(reason)
        for peer, _ in self._peers.values():
            peer.reset()
        self._publish()

    def _publish(self) -> None:
        """Takes a new picture of the view, and rings when it differs from the last one."""
        own = self._local.beat()
        topology = Topology(
            version=self._topology.version,
            nodes=[own.node, *self._view.nodes()],
            pipelines=self._view.pipelines(self.node_id, own.pipelines),
        )
        if topology != self._topology:
            topology.version += 1
            self._topology = topology
            self._changed.ring()

    def _not_running(self) -> UnavailableError:
        return UnavailableError(f"node {self._local.name} is starting or stopping")

    async def _say_goodbye(self) -> None:
        """Tells every member that this node leaves; those that do not answer in time will notice."""
        self.leaving = True
        # A join under way would arrive after the goodbye. The streams go on until everybody knows.
        joining = [*self._joiners, *(task for peer, task in self._peers.values() if peer.dialling)]
        for task in joining:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.goodbye):
                await asyncio.gather(*joining, return_exceptions=True)
                await asyncio.gather(*(self._leave_to(node.node_id) for node in self._view.members()))

    async def _leave_to(self, node_id: str) -> None:
        connection = self._peers[node_id][0].connection if node_id in self._peers else None
        if connection is not None:
            await self._leave_by(connection.channel)
            return

        async def by(address: str) -> None:
            async with rpc.make_channel(address) as channel:
                await self._leave_by(channel)

        # The member came to this node, and the way back to it is not open yet.
        await asyncio.gather(*(by(address) for address in self.addresses(node_id)))

    async def _leave_by(self, channel: aio.Channel) -> None:
        request = LeaveRequest(node_id=self.node_id)
        try:
            await MembershipServiceStub(channel).Leave(request, timeout=self._timing.goodbye)
        except aio.AioRpcError as error:
            logger.debug("a goodbye did not arrive: %s", error.details())
