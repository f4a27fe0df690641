"""The seam of the data plane: a pipe carries whole messages of bytes to and from one peer, in order.

gRPC (``grpc.py``) and memory (``memory.py``) implement it; ``tests/node/links`` runs one conformance suite over both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable


class Pipe(ABC):
    """One end of a bidirectional stream of byte messages.

    One task may send and one may receive at a time. Cancelling either leaves the pipe of no further use.
    """

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Hands a message over; waits while the peer is slow. Raises as ``receive`` when the pipe is broken, and
        LinkError when either end has ended it."""

    @abstractmethod
    async def receive(self) -> bytes | None:
        """The next message, None when the peer ended the stream. Raises what broke the pipe: the error that the
        peer's acceptor raised, else LinkError; LinkError too when this end is closed."""

    @abstractmethod
    async def close(self) -> None:
        """Makes this end of no further use; twice is the same as once. At the end that dialled it ends the stream at
        once, and what waits raises LinkError; at the other end the stream lasts until the acceptor returns."""


Acceptor = Callable[[Pipe], Awaitable[None]]
"""Serves one pipe that a peer opened, until it returns: that ends the stream. A TandemError that it raises refuses or
breaks the pipe at the peer's end with the same kind of error, anything else with a LinkError. It is cancelled when the
peer closes the pipe or dies."""
