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
        """Hands a message over; waits while the peer is slow. Raises LinkError when the pipe is broken or closed."""

    @abstractmethod
    async def receive(self) -> bytes | None:
        """The next message, None when the peer ended the stream. Raises what broke the pipe: LinkError, or the error
        with which the peer refused it."""

    @abstractmethod
    async def close(self) -> None:
        """Ends the stream at once; the peer sees it end or break. Closing twice is the same as closing once."""


Acceptor = Callable[[Pipe], Awaitable[None]]
"""Serves one pipe that a peer opened, until it returns; what it raises refuses or breaks the pipe at the peer's end."""
