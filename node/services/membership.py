"""``MembershipService``: translates and calls, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from grpc import aio

from node.cluster.membership import Membership
from tandem import rpc
from tandem.errors import TandemError
from tandem.v1.membership_pb2 import (
    GetTopologyRequest,
    GetTopologyResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    JoinRequest,
    JoinResponse,
    LeaveRequest,
    LeaveResponse,
    ProbeLinkRequest,
    ProbeLinkResponse,
    WatchTopologyRequest,
    WatchTopologyResponse,
)
from tandem.v1.membership_pb2_grpc import MembershipServiceServicer

Context = aio.ServicerContext[Any, Any]


class MembershipServicer(MembershipServiceServicer):
    """Serves one node's ``Membership``. In every topology that it gives out the first node is this one."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    async def Join(self, request: JoinRequest, context: Context) -> JoinResponse:  # noqa: N802
        """Admits the caller or refuses with a status."""
        try:
            return await self._membership.join(request, context.peer())
        except TandemError as error:
            await rpc.abort(context, error)

    async def Leave(self, request: LeaveRequest, context: Context) -> LeaveResponse:  # noqa: N802
        """Takes note of a departure."""
        await self._membership.leave(request)
        return LeaveResponse()

    # The stubs know handlers of streams as generators only; grpc.aio also takes coroutines that read and write.
    async def Heartbeat(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[HeartbeatRequest], context: aio.ServicerContext[Any, HeartbeatResponse]
    ) -> None:
        """Beats with a member for as long as both live."""
        try:
            await self._membership.heartbeat(context.read, context.write)
        except TandemError as error:
            await rpc.abort(context, error)

    async def GetTopology(self, request: GetTopologyRequest, context: Context) -> GetTopologyResponse:  # noqa: N802
        """The view of this node."""
        return GetTopologyResponse(topology=self._membership.topology())

    async def WatchTopology(  # noqa: N802
        self, request: WatchTopologyRequest, context: Context
    ) -> AsyncIterator[WatchTopologyResponse]:
        """The view of this node, then each change of it."""
        async with aclosing(self._membership.watch()) as views:
            async for topology in views:
                yield WatchTopologyResponse(topology=topology)

    async def ProbeLink(self, request: ProbeLinkRequest, context: Context) -> ProbeLinkResponse:  # noqa: N802
        """Echoes the payload."""
        return ProbeLinkResponse(payload=request.payload)
