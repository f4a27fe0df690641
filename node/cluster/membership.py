"""Membership: this node among the others. No leader: every node keeps its own view and answers for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final

from grpc import aio

from node.cluster.dial import FENCED, Connection
from node.cluster.exchange import Ending
from node.cluster.gatekeeper import Gatekeeper, NamesakeError
from node.cluster.goodbye import say_goodbye
from node.cluster.hints import Hints
from node.cluster.identity import Identity
from node.cluster.introduction import introduce
from node.cluster.local import LocalNode, LocalState
from node.cluster.member import Member
from node.cluster.timing import Timing
from node.cluster.view import View
from tandem.clock import Clock, SleepWatch
from tandem.errors import ConflictError, NotFoundError, PreconditionError, UnavailableError, first_of
from tandem.v1.membership_pb2 import (
    HeartbeatResponse,
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    Node,
    Topology,
)
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
        self._view = View(clock=self._clock, timing=self._timing)
        self._gatekeeper = Gatekeeper(
            cluster=cluster, local=self._local, view=self._view, clock=self._clock, timing=self._timing
        )
        self._member = Member(
            identity=identity,
            cluster=cluster,
            local=self._local,
            hints=hints,
            view=self._view,
            on_fenced=on_fenced,
            clock=self._clock,
            timing=self._timing,
        )
        self._feed = self._member.feed
        self._peers = self._member.peers
        self._began_at = self._clock.monotonic()
        self._joiners: list[asyncio.Task[None]] = []

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
        refused = self._member.refused = asyncio.get_running_loop().create_future()
        self._began_at = self._clock.monotonic()
        self._member.leaving = False
        try:
            async with asyncio.TaskGroup() as group:
                self._peers.begin(group)
                self._feed.begin()
                group.create_task(self._watch_clock())
                self._joiners = [group.create_task(self._peers.follow_hints())]
                for address in self._hints.peers:
                    meeting = introduce(
                        address,
                        self._member,
                        self._hints,
                        live=self._view.live,
                        changed=self._feed.changed,
                        timing=self._timing,
                    )
                    self._joiners.append(group.create_task(meeting))
                try:
                    await refused
                except asyncio.CancelledError:
                    await self._say_goodbye()
                    raise
        except ExceptionGroup as problems:
            conflicts = problems.subgroup(ConflictError)
            if conflicts is None:
                raise
            raise first_of(conflicts) from None
        finally:
            self._member.leaving = True
            self._peers.end()
            self._feed.end()

    def topology(self) -> Topology:
        """This node's view: itself first, then the others by name, then the pipelines. Not to be changed."""
        return self._feed.topology()

    def watch(self) -> AsyncGenerator[Topology]:
        """The view as it is, then again after each change; who reads slowly gets the newest. Ends when ``run`` does."""
        return self._feed.watch()

    async def settled(self) -> None:
        """Returns once every node that was a member when this one last ran is heard again, or has had
        ``Timing.settle`` seconds to be: before that, a pipeline may be missing in the view that the others have."""
        while not self._settled():
            await self._feed.changed.wait(self._feed.changed.rings, self._timing.tick)

    def notify(self) -> None:
        """Something that beats tell has changed: sends one to every member now."""
        self._feed.publish()
        self._member.news.ring()

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
        if not self._peers.running or self._member.leaving:
            raise UnavailableError(f"node {self._local.name} is starting or stopping")
        try:
            await self._gatekeeper.check(request, caller)
        except NamesakeError as error:
            self._member.conflict(error, self._identity.incarnation)
            raise UnavailableError(f"node {self._local.name} has the same id and stops") from error
        except PreconditionError as error:
            if error.code == FENCED:
                # It is back. Dialling it tells which of the two yields.
                self._peers.get(request.node.node_id).poke()
            raise
        if request.node.node_id != self.node_id:
            self._member.admit(request.node)
        return JoinResponse(topology=self.topology())

    async def leave(self, request: LeaveRequest) -> None:
        """A member leaves: it is gone from the view at once. For strangers this does nothing, nor for a member that is
        back under a later incarnation."""
        left = self._view.remove(request.node_id, request.incarnation)
        if not self._view.known(request.node_id):
            self._hints.forget(request.node_id)
        if left:
            logger.info("node %s left", request.node_id)
            self._peers.dismiss(request.node_id)
            self._feed.publish()

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
        if self._member.leaving or not (fenced or self._member.hear(first)):
            raise PreconditionError("heartbeats are for members: join first")
        ending = Ending.REFUSED if fenced else await self._member.attend(node_id, read, write)
        if ending is Ending.REFUSED and self._view.fenced(node_id):
            with contextlib.suppress(aio.InternalError):  # nobody is there to be told
                await write(HeartbeatResponse(beat=self._member.beat(), fenced=True))

    def _connection(self, node_id: str) -> Connection:
        if not self._view.known(node_id):
            raise NotFoundError(f"there is no other node {node_id} in cluster {self._cluster!r}")
        connection = self._peers.connection(node_id)
        if not self._view.live(node_id) or connection is None:
            node = self.node(node_id)
            raise UnavailableError(f"node {node.name} cannot be reached: {node.state_reason or 'no connection yet'}")
        return connection

    def _settled(self) -> bool:
        waited = self._clock.monotonic() - self._began_at
        return waited > self._timing.settle or all(self._view.beats(each)[1] for each in self._identity.members)

    async def _watch_clock(self) -> None:
        """Declares nodes lost, notices that this process slept, and follows the machine's addresses."""
        watch = SleepWatch(self._clock)
        while True:
            await asyncio.sleep(self._timing.tick)
            gap = watch.gap()
            slept = gap > self._timing.asleep
            if self._local.look(now=slept):
                self._member.news.ring()
            if slept:
                self._member.begin_anew(f"this process did not run for {gap:.0f} s")
            elif gap > self._timing.stalled:
                self._view.excuse()
            self._member.lost(self._view.tick())
            self._feed.publish()
            if self._settled():
                self._member.remember()

    async def _say_goodbye(self) -> None:
        """Tells every member that this node leaves; those that do not answer in time will notice."""
        self._member.leaving = True
        # A join under way would arrive after the goodbye. The streams go on until everybody knows.
        joining = [*self._joiners, *self._peers.dialling()]
        for task in joining:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.goodbye):
                await asyncio.gather(*joining, return_exceptions=True)
                await say_goodbye(
                    LeaveRequest(node_id=self.node_id, incarnation=self._identity.incarnation),
                    [node.node_id for node in self._view.members()],
                    connection=self._peers.connection,
                    addresses=self._member.addresses,
                    deadline=self._timing.goodbye,
                )
