"""Finding the way to another node: every address at once, and the one that answers fastest is used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from grpc import aio

from node.cluster.timing import Timing
from tandem import rpc
from tandem.errors import PreconditionError, TandemError, UnavailableError
from tandem.v1.membership_pb2 import (
    GetTopologyRequest,
    JoinRequest,
    JoinResponse,
    Node,
    ProbeLinkRequest,
    Topology,
)
from tandem.v1.membership_pb2_grpc import MembershipServiceStub

FENCED: Final = "fenced"
"""Code of the refusal of an incarnation that was declared lost."""

_PROBES: Final = 3
_GRACE: Final = 0.025
_MAX_ADDRESSES: Final = 32


class FencedError(PreconditionError):
    """The member that was asked had declared this node lost; ``topology`` is that member's view, itself first."""

    code = FENCED

    def __init__(self, message: str, topology: Topology) -> None:
        super().__init__(message)
        self.topology = topology


@dataclass(frozen=True, slots=True)
class Connection:
    """An open channel to a member that admitted this node. Who holds it closes the channel."""

    channel: aio.Channel
    address: str
    latency: float
    answer: JoinResponse

    @property
    def node(self) -> Node:
        """The member that answered: the first node of its own view."""
        return self.answer.topology.nodes[0]


@dataclass(frozen=True, slots=True)
class _Probed:
    latency: float
    address: str
    channel: aio.Channel


async def connect(
    addresses: Sequence[str], greeting: JoinRequest, *, timing: Timing, expected: str | None = None
) -> Connection:
    """Joins the node behind the addresses by the one that answers fastest; ``expected`` is its id where known.

    Raises ``UnavailableError`` when none answers (or only others do), ``FencedError``, ``ConflictError`` or
    ``PreconditionError`` when the node refuses. All channels but the one returned are closed, cancelled or not.
    """
    if not addresses:
        raise UnavailableError("no address is known")
    kept: aio.Channel | None = None
    channels = {address: rpc.make_channel(address) for address in addresses[:_MAX_ADDRESSES]}
    probes = [asyncio.create_task(_probe(address, channel, timing)) for address, channel in channels.items()]
    problems: list[TandemError] = []
    try:
        async for each in _by_speed(probes, problems):
            try:
                answer = await _join(each.channel, greeting, timing)
            except FencedError:
                raise
            except PreconditionError as error:
                # A node of another cluster may have got an address that was the node's before.
                problems.insert(0, error)
                continue
            connection = Connection(each.channel, each.address, each.latency, answer)
            if expected is None or connection.node.node_id == expected:
                kept = each.channel
                return connection
            problems.append(UnavailableError(f"{each.address}: another node answers"))
        if isinstance(problems[0], PreconditionError):
            raise problems[0]
        raise UnavailableError("; ".join(sorted(error.message for error in problems)))
    finally:
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        for channel in channels.values():
            if channel is not kept:
                await channel.close()


async def _by_speed(probes: Iterable[asyncio.Task[_Probed]], problems: list[TandemError]) -> AsyncIterator[_Probed]:
    """The addresses as they answer, of those that answer at about the same time the fastest first."""
    waiting = set(probes)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting and any(probe.exception() is None for probe in done):
            late, waiting = await asyncio.wait(waiting, timeout=_GRACE)
            done |= late
        answered = []
        for probe in done:
            try:
                answered.append(probe.result())
            except UnavailableError as error:
                problems.append(error)
        for each in sorted(answered, key=lambda one: one.latency):
            yield each


async def _probe(address: str, channel: aio.Channel, timing: Timing) -> _Probed:
    stub = MembershipServiceStub(channel)
    latency = float("inf")
    try:
        async with asyncio.timeout(timing.probe):
            for _ in range(_PROBES):
                start = time.perf_counter()
                await stub.ProbeLink(ProbeLinkRequest(payload=b"tandem"), timeout=timing.probe)
                latency = min(latency, time.perf_counter() - start)
    except aio.AioRpcError as error:
        raise UnavailableError(f"{address}: {brief(error)}") from error
    except TimeoutError:
        raise UnavailableError(f"{address}: no answer within {timing.probe:g} s") from None
    return _Probed(latency, address, channel)


async def _join(channel: aio.Channel, greeting: JoinRequest, timing: Timing) -> JoinResponse:
    stub = MembershipServiceStub(channel)
    try:
        answer = await stub.Join(greeting, timeout=timing.join)
        if not answer.topology.nodes:
            raise PreconditionError("a node answers, but does not say who it is")
        return answer
    except aio.AioRpcError as error:
        refusal = rpc.from_rpc_error(error)
        if refusal.code != FENCED:
            raise refusal from error
    try:
        view = await stub.GetTopology(GetTopologyRequest(), timeout=timing.probe)
    except aio.AioRpcError as error:
        raise rpc.from_rpc_error(error) from error
    if not view.topology.nodes:
        raise refusal
    raise FencedError(refusal.message, view.topology)


def brief(error: aio.AioRpcError | TandemError) -> str:
    """What happened to a connection, in a few words for a table."""
    details = (error.details() or error.code().name) if isinstance(error, aio.AioRpcError) else error.message
    for sign, words in (
        ("Connection refused", "connection refused"),
        ("Connection reset", "connection reset"),
        ("Socket closed", "connection closed"),
        ("ping timeout", "no answer to pings"),
        ("keepalive", "no answer to pings"),
        ("timed out", "no answer in time"),
        ("handshaker shutdown", "no answer in time"),
        ("No route to host", "no route"),
        ("connect failed", "cannot connect"),
        ("Network is unreachable", "network unreachable"),
        ("Deadline Exceeded", "no answer in time"),
    ):
        if sign.lower() in details.lower():
            return words
    return details[:160]
