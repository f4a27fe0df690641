"""What this node shows of the cluster: its view as one topology, for whoever asks and for whoever watches."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from node.cluster.bell import Bell
from node.cluster.local import LocalNode
from node.cluster.view import View
from tandem.v1.membership_pb2 import Topology


class TopologyFeed:
    """Numbers the changes of the view and rings ``changed`` at each."""

    def __init__(self, local: LocalNode, view: View) -> None:
        self.changed = Bell()
        self._local = local
        self._view = view
        self._topology = Topology()
        self._over = False

    def begin(self) -> None:
        """From now on watchers stay."""
        self._over = False
        self.publish()

    def end(self) -> None:
        """Lets every watcher go."""
        self._over = True
        self.changed.ring()

    def publish(self) -> None:
        """Takes a new picture of the view, and rings when it differs from the last one."""
        own = self._local.beat()
        topology = Topology(
            version=self._topology.version,
            nodes=[own.node, *self._view.nodes()],
            pipelines=self._view.pipelines(own.node.node_id, own.pipelines),
        )
        if topology != self._topology:
            topology.version += 1
            self._topology = topology
            self.changed.ring()

    def topology(self) -> Topology:
        """The view now: this node first, then the others by name, then the pipelines. Not to be changed."""
        self.publish()
        return self._topology

    async def watch(self) -> AsyncGenerator[Topology]:
        """The view as it is, then again after each change; who reads slowly gets the newest. Ends with ``end``."""
        version = -1
        while not self._over:
            seen = self.changed.rings
            topology = self.topology()
            if topology.version != version:
                version = topology.version
                yield topology
            else:
                await self.changed.wait(seen)
