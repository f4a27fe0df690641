"""One heartbeat stream, as one of its two ends sees it; both ends do the same."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, Generic, TypeVar

from grpc import aio

from node.cluster.bell import Bell
from tandem.v1.membership_pb2 import HeartbeatRequest, HeartbeatResponse

Out = TypeVar("Out", HeartbeatRequest, HeartbeatResponse)
In = TypeVar("In", HeartbeatRequest, HeartbeatResponse)

_BREATH: Final = 0.05
"""Seconds between two beats however fast the news come."""
_LAST_WRITE: Final = 0.5
"""Seconds that a write under way may take when the stream ends."""


class Ending(enum.Enum):
    """Why a stream ended in good order. Broken connections are errors instead."""

    CLOSED = enum.auto()
    """The other end closed it."""
    REPLACED = enum.auto()
    """This end has another stream with the same node."""
    REFUSED = enum.auto()
    """One of the ends does not count the other as a member any more: it has to join again."""


class Exchange(Generic[Out, In]):
    """Sends a beat in every period and at every news, and hands on the beats that come."""

    def __init__(
        self,
        *,
        read: Callable[[], Awaitable[Any]],
        write: Callable[[Out], Awaitable[None]],
        make: Callable[[], Out],
        take: Callable[[In], bool],
        news: Bell,
        period: float,
    ) -> None:
        """``take`` returns False for a beat that the stream must not go on after."""
        self._read = read
        self._write: Callable[[Out], Awaitable[None]] = write
        self._make: Callable[[], Out] = make
        self._take: Callable[[In], bool] = take
        self._news = news
        self._period = period
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._heard_at = time.monotonic()

    def age(self) -> float:
        """Seconds since the last beat came."""
        return time.monotonic() - self._heard_at

    def end(self, ending: Ending) -> None:
        """Makes ``run`` return."""
        if not self._ended.done():
            self._ended.set_result(ending)

    async def run(self) -> Ending:
        """Beats until the stream ends; raises ``AioRpcError`` when it breaks.

        Nothing reads or writes any more when this returns, raises or is cancelled.
        """
        try:
            async with background(self._read_all()), background(self._write_all()):
                return await self._ended
        finally:
            self._ended.cancel()

    async def _read_all(self) -> None:
        try:
            while (beat := await self._read()) is not aio.EOF:
                self._heard_at = time.monotonic()
                if not self._take(beat):
                    self.end(Ending.REFUSED)
                    return
        except aio.AioRpcError as error:
            if not self._ended.done():
                self._ended.set_exception(error)
        except aio.InternalError:
            # How grpc.aio's server side says that the caller is gone.
            return
        finally:
            self.end(Ending.CLOSED)

    async def _write_all(self) -> None:
        try:
            while True:
                seen = self._news.rings
                await _whole(self._write(self._make()))
                await asyncio.sleep(_BREATH)
                await self._news.wait(seen, self._period - _BREATH)
        except (aio.AioRpcError, aio.InternalError, asyncio.InvalidStateError):
            # The stream is over, and the reader learns why.
            return


async def _whole(write: Awaitable[None]) -> None:
    """A write that is not cut off by cancellation: gRPC fails what a server sends after a write that it has begun and
    that nobody waits for, be it the status, and logs a traceback for that."""
    writing = asyncio.ensure_future(write)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks for it any more
        try:
            await asyncio.wait([writing], timeout=_LAST_WRITE)
        finally:
            writing.cancel()
        raise


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs ``work`` beside the body and ends it with the body; an error of the work itself is raised at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
