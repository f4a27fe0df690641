"""The peers of this node: one for each node that is worth dialling, with the task in which it dials and beats."""

from __future__ import annotations

import asyncio

from node.cluster.dial import Connection
from node.cluster.hints import Hints
from node.cluster.peer import Host, Peer
from node.cluster.timing import Timing
from node.cluster.view import View
from tandem.errors import UnavailableError


class Peers:
    """Begins a peer when there is a reason to dial its node, and ends it when nobody speaks of the node any more."""

    def __init__(self, host: Host, hints: Hints, view: View, timing: Timing) -> None:
        self._host = host
        self._hints = hints
        self._view = view
        self._timing = timing
        self._group: asyncio.TaskGroup | None = None
        self._peers: dict[str, tuple[Peer, asyncio.Task[None]]] = {}

    @property
    def running(self) -> bool:
        """Whether peers can be begun."""
        return self._group is not None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """From now on peers run in the group."""
        self._group = group

    def end(self) -> None:
        """The group is over, and every peer with it."""
        self._group = None
        self._peers.clear()

    async def follow_hints(self) -> None:
        """Keeps a peer for each node that there is a hint about or that is in view; until cancelled."""
        seen = -1
        while True:
            # This node's own id is among them when somebody else announces it, and dialling that settles who goes.
            wanted = self._hints.nodes() | self._view.ids()
            for node_id in wanted:
                self.get(node_id)
            for node_id in self._peers.keys() - wanted:
                self.dismiss(node_id)
            rings = await self._hints.changed.wait(seen, self._timing.interfaces)
            if rings != seen:
                for peer, _ in self._peers.values():
                    peer.poke()
            seen = rings

    def get(self, node_id: str) -> Peer:
        """The peer for a node, begun if need be. Raises ``UnavailableError`` while this node starts or stops."""
        if node_id not in self._peers:
            if self._group is None:
                raise UnavailableError("this node is starting or stopping")
            peer = Peer(node_id, self._host, self._timing)
            self._peers[node_id] = peer, self._group.create_task(peer.run())
        return self._peers[node_id][0]

    def poke(self, node_id: str) -> None:
        """Has a node dialled now, if there is a peer for it."""
        if node_id in self._peers:
            self._peers[node_id][0].poke()

    def reset(self, node_id: str) -> None:
        """Has a node joined anew, if there is a peer for it."""
        if node_id in self._peers:
            self._peers[node_id][0].reset()

    def reset_all(self) -> None:
        """Has every node joined anew."""
        for peer, _ in self._peers.values():
            peer.reset()

    def dismiss(self, node_id: str) -> None:
        """Ends the peer for a node, and its streams."""
        if node_id in self._peers:
            peer, task = self._peers.pop(node_id)
            peer.reset()
            task.cancel()

    def connection(self, node_id: str) -> Connection | None:
        """The open connection to a node."""
        return self._peers[node_id][0].connection if node_id in self._peers else None

    def dialling(self) -> list[asyncio.Task[None]]:
        """The tasks of the peers that are about to join a node."""
        return [task for peer, task in self._peers.values() if peer.dialling]
