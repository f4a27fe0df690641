"""Server-sent events over one HTTP response, kept alive by chunks that change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from aiohttp import web

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class EventStream:
    """A stream that is open while it is entered; entering sends the headers.

    After ``heartbeat_seconds`` without a write, the text that ``heartbeat`` gives is sent: clients count events, not
    bytes, so it must be a whole event; an empty
    text ends the beating. Writes raise ``ConnectionError`` when the client has gone.
    """

    def __init__(self, request: web.Request, heartbeat: Callable[[], str], heartbeat_seconds: float) -> None:
        self.response = web.StreamResponse(headers=HEADERS)
        self._request = request
        self._heartbeat = heartbeat
        self._seconds = heartbeat_seconds
        self._time = asyncio.get_running_loop().time
        self._written = self._time()
        self._pulse: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.response.prepare(self._request)
        self._pulse = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.wait({self._pulse})
        if kind is None:
            await self.response.write_eof()

    async def write(self, text: str) -> None:
        """Sends some events at once; waits while the client is slow. The text is not empty."""
        self._written = self._time()
        await self.response.write(text.encode())

    async def _beat(self) -> None:
        while True:
            left = self._written + self._seconds - self._time()
            if left > 0:
                await asyncio.sleep(left)
                continue
            beat = self._heartbeat()
            if not beat:
                return
            try:
                await self.write(beat)
            except ConnectionError:
                return
