"""The two ends of a link: entries of the log go down, credit for tensors' bytes comes up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Self

from google.protobuf.message import DecodeError

from node.engine.frames import Entry
from node.links.base import Pipe
from node.links.codec import Assembler, carried_bytes, decode, encode, to_messages
from tandem.errors import LinkError, TandemError
from tandem.v1 import pipeline_pb2 as pb

PIECE_BYTES: Final = 512 * 1024
WINDOW_BYTES: Final = 16 * PIECE_BYTES
"""Bytes of tensors that may be under way un-acknowledged: they fill a fast wire and bound what waits in buffers."""
GRANT_BYTES: Final = WINDOW_BYTES // 2
"""The receiver gives back that much at a time: a grant costs as much as a piece, and half a window is still on its way.
"""
UNLIMITED: Final = 1 << 62
"""Credit of the link that closes the ring: the head always drains it, and credits in a cycle would deadlock."""
HELLO_DEADLINE: Final = 5.0
"""Seconds that hello and its answer may take."""


class OutgoingLink:
    """The end that sends entries.

    ``broken`` is done, with the reason, as soon as the link is of no further use; ``send`` then raises it.
    """

    def __init__(self, pipe: Pipe, ready: pb.LinkReady) -> None:
        self._pipe = pipe
        self._credit = ready.credit_bytes
        self._piece_bytes = min(PIECE_BYTES, ready.max_piece_bytes or PIECE_BYTES, ready.credit_bytes or PIECE_BYTES)
        self._next_index = 2  # after hello
        self._more_credit = asyncio.Event()
        self._writing = asyncio.Lock()
        self.broken: asyncio.Future[TandemError] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(), name="link credits")

    @classmethod
    async def open(cls, pipe: Pipe, hello: pb.LinkHello, *, deadline: float = HELLO_DEADLINE) -> Self:
        """Says hello and waits for the answer, ``deadline`` seconds at most. Whatever is raised, the pipe is closed.

        Raises:
            PreconditionError: the peer refused: stale epoch, other digest.
            LinkError: the pipe broke, or no answer came in time.
        """
        try:
            async with asyncio.timeout(deadline):
                await pipe.send(encode(pb.StreamActivationsRequest(log_index=1, hello=hello)))
                answer = await pipe.receive()
            if answer is None:
                raise LinkError("the peer closed the link without an answer to hello")
            response = _response(answer)
            if response.WhichOneof("frame") != "ready":
                raise LinkError("the peer did not answer hello")
        except TimeoutError as error:
            await pipe.close()
            raise LinkError("no answer to hello") from error
        except BaseException:
            await pipe.close()
            raise
        return cls(pipe, response.ready)

    async def send(self, entry: Entry) -> None:
        """Puts an entry and its tensors into the log; waits for credit before each message that carries some of their
        bytes.

        Raises what broke the link. A cancelled ``send`` breaks the link: half a tensor is of no use.
        """
        async with self._writing:
            try:
                for message in to_messages(entry, self._piece_bytes, self._next_index):
                    if self.broken.done():
                        raise self.broken.result()
                    self._next_index += 1
                    size = carried_bytes(message)
                    if size > self._credit:
                        await self._wait_for_credit(size)
                    self._credit -= size
                    await self._pipe.send(encode(message))
            except TandemError as error:
                self._break(error)
                raise
            except BaseException:
                self._break(LinkError("the link was given up in the middle of an entry"))
                raise

    async def close(self) -> None:
        """Ends the link, for the peer too; a ``send`` under way raises LinkError."""
        self._break(LinkError("the link is closed"))
        self._reader.cancel()
        await self._pipe.close()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _wait_for_credit(self, count: int) -> None:
        while self._credit < count:
            self._more_credit.clear()
            await self._more_credit.wait()
            if self.broken.done():
                raise self.broken.result()

    async def _read(self) -> None:
        try:
            while (data := await self._pipe.receive()) is not None:
                response = _response(data)
                if response.WhichOneof("frame") != "credit":
                    raise LinkError("the peer sent something else than credit")
                self._credit += response.credit.bytes
                self._more_credit.set()
        except TandemError as error:
            self._break(error)
        finally:
            self._break(LinkError("the peer closed the link"))

    def _break(self, error: TandemError) -> None:
        if not self.broken.done():
            self.broken.set_result(error)
            self._more_credit.set()


class IncomingLink:
    """The end that receives entries; the peer gets new credit as fast as this end reads."""

    def __init__(self, pipe: Pipe, *, limited: bool) -> None:
        self._pipe = pipe
        self._limited = limited
        self._assembler = Assembler()
        self._consumed = 0

    @classmethod
    async def accept(
        cls, pipe: Pipe, verify: Callable[[pb.LinkHello], bool], *, deadline: float = HELLO_DEADLINE
    ) -> tuple[Self, pb.LinkHello]:
        """Reads hello and answers it, within ``deadline`` seconds.

        Args:
            pipe: as accepted.
            verify: checks hello; says whether the link needs credit (the one that closes the ring needs none); raises
                PreconditionError to refuse it.

        Raises:
            LinkError: no hello in time, or something else came.
            TandemError: what ``verify`` raised.
        """
        try:
            async with asyncio.timeout(deadline):
                data = await pipe.receive()
                if data is None:
                    raise LinkError("the peer closed the link before hello")
                message = decode(data)
                if not isinstance(message, pb.StreamActivationsRequest) or message.WhichOneof("entry") != "hello":
                    raise LinkError("the link does not begin with hello")
                limited = verify(message.hello)
                link = cls(pipe, limited=limited)
                link._assembler.index(message.log_index)
                ready = pb.LinkReady(credit_bytes=WINDOW_BYTES if limited else UNLIMITED, max_piece_bytes=PIECE_BYTES)
                await pipe.send(pb.StreamActivationsResponse(ready=ready).SerializeToString())
        except TimeoutError as error:
            raise LinkError("no hello") from error
        return link, message.hello

    async def receive(self) -> Entry | None:
        """The next whole entry; None when the peer ended the link between two entries.

        Raises LinkError on a gap, garbage, or an end in the middle of a tensor.
        """
        while (data := await self._pipe.receive()) is not None:
            message = decode(data)
            if (size := carried_bytes(message)) > 0:
                await self._count(size)
            entry = self._assembler.add(message)
            if entry is not None:
                return entry
        self._assembler.end()
        return None

    async def _count(self, size: int) -> None:
        if size > PIECE_BYTES:
            raise LinkError(f"{size} bytes of tensors in a message: at most {PIECE_BYTES} were agreed")
        self._consumed += size
        if self._limited and self._consumed >= GRANT_BYTES:
            credit = pb.CreditGrant(bytes=self._consumed)
            self._consumed = 0
            await self._pipe.send(pb.StreamActivationsResponse(credit=credit).SerializeToString())


def _response(data: bytes) -> pb.StreamActivationsResponse:
    try:
        return pb.StreamActivationsResponse.FromString(data)
    except DecodeError as error:
        raise LinkError("garbage on the link: not an answer") from error
