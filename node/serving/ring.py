"""The ring as its head sees it: entries go out on one link, completed steps come back on another.

With a single stage there is no link: a step is complete as soon as this node has run it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from node.engine.frames import Entry, Step
from node.links.base import Pipe
from node.links.link import IncomingLink, OutgoingLink
from tandem.errors import LinkError, StageLostError, TandemError
from tandem.v1 import pipeline_pb2 as pb

CLOSE_DEADLINE: Final = 10.0
"""Seconds from dialling the second stage until the last one must have reached the head."""
VERDICT_SECONDS: Final = 0.5
"""From a broken link until the ring is lost for that reason: who knows which node is gone may say so before."""

Dial = Callable[[], Awaitable[Pipe]]


class Ring:
    """The links of one epoch. ``names`` are those of the stages, for people.

    ``lost`` is done, with the reason, as soon as the ring is of no further use; whoever waits for a completion gets
    that reason too.
    """

    def __init__(self, stages: int, hello: pb.LinkHello, names: Sequence[str] = ()) -> None:
        self.stages = stages
        self._names = names or [f"stage {index}" for index in range(stages)]
        self._hello = hello
        self._out: OutgoingLink | None = None
        self._closing: asyncio.Future[IncomingLink] = asyncio.get_running_loop().create_future()
        self._waiting: dict[int, asyncio.Future[Step]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.lost: asyncio.Future[TandemError] = asyncio.get_running_loop().create_future()

    async def connect(self, dial: Dial) -> None:
        """Dials the second stage and waits until the last one has dialled the head.

        Raises:
            TandemError: a link could not be made; the ring is lost then.
        """
        if self.stages == 1:
            return
        try:
            self._out = await OutgoingLink.open(await dial(), self._hello)
            self._tasks.append(asyncio.create_task(self._watch(self._out), name="ring out"))
            async with asyncio.timeout(CLOSE_DEADLINE):
                await asyncio.wait((self._closing, self.lost), return_when=asyncio.FIRST_COMPLETED)
            if self.lost.done():
                raise self.lost.result()
        except TimeoutError as error:
            lost = StageLostError(f"the ring did not close within {CLOSE_DEADLINE:.0f} s")
            self.fail(lost)
            raise lost from error
        except TandemError as error:
            self.fail(error)
            raise

    async def serve_closing(self, link: IncomingLink) -> None:
        """Reads completed steps from the last stage until the link ends; for the acceptor of pipes."""
        if self._closing.done():
            raise LinkError("the ring is closed already")
        self._closing.set_result(link)
        try:
            while (entry := await link.receive()) is not None:
                if isinstance(entry, Step):
                    future = self._waiting.pop(entry.step_id, None)
                    if future is not None and not future.done():
                        future.set_result(entry)
                        await asyncio.sleep(0)  # the lane that waits goes first: reading on is not urgent
            self._suspect(f"{self._names[-1]} closed its link")
        except TandemError as error:
            self._suspect(f"the link from {self._names[-1]} broke: {error.message}")
            raise

    async def send(self, entry: Entry) -> None:
        """Sends an entry down the ring; nothing to do with a single stage. Raises what broke the ring."""
        if self.lost.done():
            raise self.lost.result()
        if self._out is not None:
            try:
                await self._out.send(entry)
            except TandemError as error:
                raise await asyncio.shield(self.lost) from error

    def expect(self, step: Step) -> asyncio.Future[Step]:
        """The completion of a step that is about to be sent; with a single stage it is complete already."""
        future: asyncio.Future[Step] = asyncio.get_running_loop().create_future()
        if self.lost.done():
            _reject(future, self.lost.result())
        elif self.stages == 1:
            future.set_result(step)
        else:
            self._waiting[step.step_id] = future
        return future

    def fail(self, error: TandemError) -> None:
        """Declares the ring lost: every waiter gets ``error``."""
        if not self.lost.done():
            self.lost.set_result(error)
        for future in self._waiting.values():
            if not future.done():
                _reject(future, error)
        self._waiting.clear()

    async def close(self) -> None:
        """Ends the links."""
        self.fail(StageLostError("the ring is closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._out is not None:
            await self._out.close()

    async def _watch(self, link: OutgoingLink) -> None:
        error = await asyncio.shield(link.broken)
        if isinstance(error, StageLostError):  # stage 1 is there, and names the one behind it
            self.fail(error)
        else:
            self._suspect(f"the link to {self._names[1]} broke: {error.message}")

    def _suspect(self, why: str) -> None:
        if not self.lost.done():
            self._tasks.append(asyncio.create_task(self._settle(StageLostError(why)), name="ring verdict"))

    async def _settle(self, error: TandemError) -> None:
        await asyncio.sleep(VERDICT_SECONDS)
        self.fail(error)


def _reject(future: asyncio.Future[Step], error: TandemError) -> None:
    """Fails a future; one whose waiter is cancelled before it looks shall not leave a warning behind."""
    future.set_exception(error)
    future.exception()
