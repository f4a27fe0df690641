"""A stage that is not the head: takes the log from one link, applies it, passes it on."""

from __future__ import annotations

import asyncio
from functools import partial

from node.engine.frames import Entry, Step
from node.engine.shard import Shard
from node.engine.worker import Worker
from node.links.link import IncomingLink, OutgoingLink
from node.serving.ring import Dial
from tandem.errors import StageLostError, TandemError, first_of
from tandem.v1 import pipeline_pb2 as pb

_AHEAD = 2
"""Entries that were applied and wait for the next link: computing goes on while the last result travels."""


class Relay:
    """Serves one incoming link at a time; each begins with no sequences."""

    def __init__(self, worker: Worker, shard: Shard, hello: pb.LinkHello, dial: Dial, next_name: str) -> None:
        self._worker = worker
        self._shard = shard
        self._hello = hello
        self._dial = dial
        self._next_name = next_name

    async def serve(self, incoming: IncomingLink, epoch: int) -> None:
        """Relays, under the epoch of the incoming link, until that link ends; then, or on any error or cancellation,
        frees all sequences and closes the next link, so that every stage behind learns of it.

        Raises:
            StageLostError: the next stage cannot be reached or broke its link; names it.
            LinkError: the incoming link broke.
        """
        try:
            hello = pb.LinkHello()
            hello.CopyFrom(self._hello)
            hello.epoch = epoch
            outgoing = await OutgoingLink.open(await self._dial(), hello)
        except TandemError as error:
            raise StageLostError(f"{self._next_name} cannot be reached: {error.message}") from error
        try:
            applied: asyncio.Queue[Entry | None] = asyncio.Queue(_AHEAD)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._send(outgoing, applied))
                while (entry := await incoming.receive()) is not None:
                    job = partial(self._shard.apply, entry)
                    await applied.put(await self._worker.run(job, step=isinstance(entry, Step)))
                await applied.put(None)
        except* TandemError as errors:
            raise first_of(errors) from None
        finally:
            await outgoing.close()
            await self._worker.run(self._shard.clear)

    async def _send(self, outgoing: OutgoingLink, applied: asyncio.Queue[Entry | None]) -> None:
        broken = outgoing.broken
        while True:
            get = asyncio.ensure_future(applied.get())
            try:
                await asyncio.wait((get, broken), return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    raise StageLostError(f"{self._next_name} is lost: {broken.result().message}")
            finally:
                if not get.done():
                    get.cancel()
            entry = get.result()
            if entry is None:
                return
            try:
                await outgoing.send(entry)
            except TandemError as error:
                raise StageLostError(f"{self._next_name} is lost: {error.message}") from error
