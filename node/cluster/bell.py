"""A signal to any number of waiters that none of them can miss."""

from __future__ import annotations

import asyncio


class Bell:
    """Counts its rings. Who waits names the last count it saw, so that a ring between two waits is not lost.

    Rings that come while nobody waits melt into one.
    """

    def __init__(self) -> None:
        self.rings = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wakes every waiter."""
        self.rings += 1
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seen: int, timeout: float | None = None) -> int:
        """Returns the count of rings once it is not ``seen``, or after ``timeout`` seconds whatever it is.

        Cancelling leaves nothing behind.
        """
        if self.rings == seen:
            try:
                async with asyncio.timeout(timeout):
                    await self._event.wait()
            except TimeoutError:
                pass
        return self.rings
