"""A stage that is not the head: takes the log from one link, applies it, passes it on."""

from __future__ import annotations

import asyncio
from functools import partial

from node.engine.frames import Step
from node.engine.shard import Shard
from node.engine.worker import Worker
from node.links.link import IncomingLink, OutgoingLink
from node.serving.ring import Dial
from tandem.errors import StageLostError, TandemError, first_of
from tandem.v1 import pipeline_pb2 as pb

_CARRIERS = 2
"""Tasks that take turns: computing goes on while the result before travels."""


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
            passage = _Passage(incoming, outgoing)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(outgoing))
                carriers = [tasks.create_task(self._carry(passage)) for _ in range(_CARRIERS)]
                await asyncio.wait(carriers)
                watching.cancel()
        except* TandemError as errors:
            raise first_of(errors) from None
        finally:
            await outgoing.close()
            await self._worker.run(self._shard.clear)

    async def _carry(self, passage: _Passage) -> None:
        """Takes entries through one by one. An entry goes from the wire to the MLX thread and back to the wire within
        one task, so that nothing but the thread itself is waited for."""
        while True:
            async with passage.near:
                entry = None if passage.over else await passage.incoming.receive()
                if entry is None:
                    passage.over = True
                    return
                length = entry.length if isinstance(entry, Step) else 0
                applied = await self._worker.run(partial(self._shard.apply, entry), step=length)
                await passage.far.acquire()  # before another entry comes in: they leave in the order of the log
            try:
                await passage.outgoing.send(applied)
            except TandemError as error:
                raise self._lost(error) from error
            finally:
                passage.far.release()

    async def _watch(self, outgoing: OutgoingLink) -> None:
        """The next stage may go while nothing is under way."""
        raise self._lost(await asyncio.shield(outgoing.broken))

    def _lost(self, error: TandemError) -> StageLostError:
        return StageLostError(f"{self._next_name} is lost: {error.message}")


class _Passage:
    """The two links and who may use them: ``near`` for taking an entry in and applying it, ``far`` for sending."""

    def __init__(self, incoming: IncomingLink, outgoing: OutgoingLink) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.near = asyncio.Lock()
        self.far = asyncio.Lock()
        self.over = False
