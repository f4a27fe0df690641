"""Pipes inside one process: for tests, and for stages that share a process."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from typing_extensions import override

from node.links.base import Acceptor, Pipe
from tandem.errors import LinkError, TandemError

log = logging.getLogger(__name__)

_CAPACITY: Final = 16
"""Messages that may wait in one direction."""


class _Stream:
    """One direction: a bounded queue that can end, well or with an error."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._over = False
        self._error: TandemError | None = None

    async def put(self, data: bytes) -> None:
        while not self._over and len(self._messages) >= _CAPACITY:
            self._changed.clear()
            await self._changed.wait()
        if self._over:
            raise self._error or LinkError("the peer closed the link")
        self._messages.append(data)
        self._changed.set()

    async def get(self) -> bytes | None:
        while not self._over and not self._messages:
            self._changed.clear()
            await self._changed.wait()
        if self._messages:
            self._changed.set()
            return self._messages.popleft()
        if self._error is not None:
            raise self._error
        return None

    def end(self, error: TandemError | None, *, drop: bool = False) -> None:
        """No message comes any more; ``drop`` those that wait. Only the first call counts, apart from dropping."""
        if drop:
            self._messages.clear()
        if not self._over:
            self._over, self._error = True, error
        self._changed.set()


class MemoryPipe(Pipe):
    """One end of a pair made by ``memory_pair``."""

    def __init__(self, inbox: _Stream, outbox: _Stream) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @override
    async def send(self, data: bytes) -> None:
        self._check()
        await self._outbox.put(data)

    @override
    async def receive(self) -> bytes | None:
        self._check()
        return await self._inbox.get()

    @override
    async def close(self) -> None:
        self.end(None)

    def end(self, error: TandemError | None) -> None:
        """Closes this end; the peer gets what was sent, and then ``error``, or the stream's end without one."""
        if self.closed.done():
            return
        self.closed.set_result(None)
        self._outbox.end(error)
        self._inbox.end(error or LinkError("the link is closed"), drop=True)

    def _check(self) -> None:
        if self.closed.done():
            raise LinkError("the link is closed")


def memory_pair() -> tuple[MemoryPipe, MemoryPipe]:
    """Two ends of one pipe."""
    forth, back = _Stream(), _Stream()
    return MemoryPipe(back, forth), MemoryPipe(forth, back)


class MemoryListener:
    """Where memory pipes are dialled: the acceptor runs in a task of this listener."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def dial(self) -> Pipe:
        """Opens a pipe to the acceptor. Raises LinkError when the listener is closed."""
        if self._closed:
            raise LinkError("nobody listens")
        near, far = memory_pair()
        task = asyncio.create_task(self._serve(far), name="memory link")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        near.closed.add_done_callback(lambda _: task.cancel())
        return near

    async def _serve(self, pipe: MemoryPipe) -> None:
        error: TandemError | None = LinkError("the link was given up")
        try:
            await self._acceptor(pipe)
            error = None
        except TandemError as raised:
            error = raised
        except Exception:
            log.exception("the acceptor of a memory link failed")
        finally:
            pipe.end(error)

    async def close(self) -> None:
        """Ends all pipes that were accepted, and accepts none any more."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
