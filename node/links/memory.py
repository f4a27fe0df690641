"""Pipes inside one process: for tests, and for stages that share a process."""

from __future__ import annotations

import asyncio

from typing_extensions import override

from node.links.base import Acceptor, Pipe
from tandem.errors import LinkError, TandemError

_CAPACITY = 16


class _End:
    """Says that the stream is over, and why."""

    def __init__(self, error: TandemError | None) -> None:
        self.error = error


class MemoryPipe(Pipe):
    """One end of a pair made by ``memory_pair``."""

    def __init__(self, inbox: asyncio.Queue[bytes], outbox: asyncio.Queue[bytes]) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._over: asyncio.Future[_End] = asyncio.get_running_loop().create_future()
        self.peer: MemoryPipe | None = None

    @override
    async def send(self, data: bytes) -> None:
        if self._over.done():
            raise self._over.result().error or LinkError("the link is closed")
        put = asyncio.ensure_future(self._outbox.put(data))
        try:
            await asyncio.wait((put, self._over), return_when=asyncio.FIRST_COMPLETED)
            if not put.done():
                raise self._over.result().error or LinkError("the link is closed")
        finally:
            put.cancel()

    @override
    async def receive(self) -> bytes | None:
        if self._inbox.empty() and not self._over.done():
            get = asyncio.ensure_future(self._inbox.get())
            try:
                await asyncio.wait((get, self._over), return_when=asyncio.FIRST_COMPLETED)
                if get.done():
                    return get.result()
            finally:
                get.cancel()
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        error = self._over.result().error
        if error is not None:
            raise error
        return None

    @override
    async def close(self) -> None:
        self.end(None)

    def end(self, error: TandemError | None) -> None:
        """Ends both ends; the peer's ``receive`` raises ``error``, or gives None without one."""
        for pipe in (self, self.peer):
            if pipe is not None and not pipe._over.done():
                pipe._over.set_result(_End(error if pipe is self.peer else None))


def memory_pair() -> tuple[MemoryPipe, MemoryPipe]:
    """Two ends of one pipe."""
    forth: asyncio.Queue[bytes] = asyncio.Queue(_CAPACITY)
    back: asyncio.Queue[bytes] = asyncio.Queue(_CAPACITY)
    left, right = MemoryPipe(back, forth), MemoryPipe(forth, back)
    left.peer, right.peer = right, left
    return left, right


class MemoryListener:
    """Where memory pipes are dialled: the acceptor runs in a task of this listener."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(self) -> Pipe:
        """Opens a pipe to the acceptor."""
        near, far = memory_pair()
        task = asyncio.create_task(self._serve(far))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return near

    async def _serve(self, pipe: MemoryPipe) -> None:
        error: TandemError | None = LinkError("the peer is gone")
        try:
            await self._acceptor(pipe)
            error = None
        except TandemError as raised:
            error = raised
        finally:
            pipe.end(error)

    async def close(self) -> None:
        """Ends all pipes that were accepted."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
