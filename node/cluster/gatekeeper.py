"""Who may be a member: the one place that decides about a join."""

from __future__ import annotations

import asyncio

from node.cluster.addresses import is_local, only_loopback
from node.cluster.dial import FENCED
from node.cluster.local import LocalNode
from node.cluster.timing import Timing
from node.cluster.view import Admission, View
from tandem.clock import Clock
from tandem.errors import ConflictError, InvalidRequestError, PreconditionError
from tandem.settings import join_address
from tandem.v1.membership_pb2 import JoinRequest, Node


class NamesakeError(ConflictError):
    """The caller has this node's id and had it first: this node is the one that has to go."""


class Gatekeeper:
    """Checks joiners against this node and its view; changes neither."""

    def __init__(self, *, cluster: str, local: LocalNode, view: View, clock: Clock, timing: Timing) -> None:
        self._cluster = cluster
        self._local = local
        self._view = view
        self._clock = clock
        self._timing = timing

    async def check(self, request: JoinRequest, caller: str) -> None:
        """Returns when the node may be admitted (or is this very process, which found itself).

        ``caller`` is gRPC's name for where the call comes from. Raises ``InvalidRequestError``, ``ConflictError``
        for an id that is in use, ``NamesakeError``, and ``PreconditionError`` for another cluster or version, for a
        node that nobody could dial, and (code ``fenced``) for an incarnation that was declared lost.
        """
        node = request.node
        if not node.node_id or len(node.node_id) > 63:
            raise InvalidRequestError("a joiner needs a node id of at most 63 characters", param="node.node_id")
        if request.cluster != self._cluster:
            raise PreconditionError(f"this is cluster {self._cluster!r}, not {request.cluster!r}")
        if _kind(node.version) != _kind(self._local.version):
            raise PreconditionError(
                f"node {self._local.name} runs Tandem {self._local.version}, "
                f"the joiner {node.version or 'an unknown one'}"
            )
        if node.node_id == self._local.identity.node_id:
            return self._check_namesake(node)
        if only_loopback(node.endpoints) and not is_local(caller):
            raise PreconditionError(
                f"node {node.name} listens on loopback, where nobody can answer it; start it with --listen and "
                "--insecure, on a network that you trust"
            )
        verdict = self._view.judge(node)
        if verdict is Admission.IN_USE:
            verdict = await self._await_silence(node)
        if verdict is Admission.FENCED:
            raise PreconditionError(f"node {node.node_id} was declared lost; it has to begin anew", code=FENCED)
        if verdict is Admission.IN_USE:
            owner = next(each for each in self._view.nodes() if each.node_id == node.node_id)
            raise ConflictError(_taken(node.node_id, _described(owner)))
        return None

    def _check_namesake(self, node: Node) -> None:
        identity = self._local.identity
        if identity.was_mine(node.incarnation):
            return
        if node.incarnation > identity.incarnation:
            raise ConflictError(_taken(node.node_id, f"node {self._local.name}, which was there first"))
        raise NamesakeError(_taken(node.node_id, f"{_described(node)}, which was there first"))

    async def _await_silence(self, node: Node) -> Admission:
        """Waits for a sign of life of the present owner of the node's id; without one the joiner takes its place."""
        owner, beats = self._view.beats(node.node_id)
        deadline = self._clock.monotonic() + self._timing.verdict
        while (verdict := self._view.judge(node)) is Admission.IN_USE:
            incarnation, heard = self._view.beats(node.node_id)
            # The first beat may have been under way already when its sender died.
            if incarnation == owner and heard >= beats + 2:
                break
            if self._clock.monotonic() >= deadline:
                return Admission.ADMITTED if node.incarnation > incarnation else verdict
            await asyncio.sleep(self._timing.beat / 10)
        return verdict


def _kind(version: str) -> tuple[str, ...]:
    """The part of a version that members must share."""
    return tuple(version.split(".")[:2])


def _described(node: Node) -> str:
    return f"node {node.name} at {', '.join(join_address(each.host, each.port) for each in node.endpoints)}"


def _taken(node_id: str, owner: str) -> str:
    return (
        f"node id {node_id} is in use by {owner}; a node needs a --data-dir of its own, and one that was copied "
        "from another machine loses its id when node.json in it is removed"
    )
