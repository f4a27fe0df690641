"""Peers that a person named by address: who they are is not known before they answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from node.cluster.bell import Bell
from node.cluster.dial import FencedError, connect
from node.cluster.hints import Hints, dialable
from node.cluster.peer import Backoff
from node.cluster.timing import Timing
from tandem.errors import ConflictError, TandemError, UnavailableError
from tandem.v1.membership_pb2 import JoinRequest

logger: Final = logging.getLogger(__name__)


class Joiner(Protocol):
    """The node that wants to get to know the peer."""

    @property
    def node_id(self) -> str:
        """Its id."""

    def greeting(self) -> JoinRequest:
        """What it joins others with."""

    def fenced(self, node_id: str, error: FencedError, incarnation: int) -> None:
        """Another node had declared that incarnation of this one lost."""

    def conflict(self, error: ConflictError, incarnation: int) -> None:
        """That incarnation of this node was refused, because its id belongs to somebody else."""


async def introduce(
    address: str, joiner: Joiner, hints: Hints, *, live: Callable[[str], bool], changed: Bell, timing: Timing
) -> None:
    """Finds out who answers at the address, and again when that node is no live member any more; until cancelled.

    ``changed`` rings when the answer of ``live`` may have changed.
    """
    backoff = Backoff(timing)
    complaint = ""
    while True:
        greeting = joiner.greeting()
        try:
            connection = await connect(dialable([address]), greeting, timing=timing)
        except ConflictError as error:
            joiner.conflict(error, greeting.node.incarnation)
        except FencedError as error:
            joiner.fenced(error.topology.nodes[0].node_id, error, greeting.node.incarnation)
        except TandemError as error:
            if error.message != complaint:
                complaint = error.message
                level = logging.INFO if isinstance(error, UnavailableError) else logging.WARNING
                logger.log(level, "no connection to peer %s: %s", address, error.message)
        else:
            await connection.channel.close()
            backoff.reset()
            complaint = ""
            # This node itself may stand behind an address that is somebody else's tomorrow.
            if connection.node.node_id != joiner.node_id:
                hints.told(connection.node, address)
            await asyncio.sleep(timing.silence)
            while live(connection.node.node_id):
                await changed.wait(changed.rings, timing.interfaces)
        await asyncio.sleep(backoff.next())
