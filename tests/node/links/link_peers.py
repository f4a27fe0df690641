"""Both implementations of the seam behind one face, and a receiver that a test can hold back."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from typing_extensions import override

from node.engine import frames
from node.links.base import Acceptor, Pipe
from node.links.grpc import DialledPipe, add_pipeline_service
from node.links.link import IncomingLink, OutgoingLink
from node.links.memory import MemoryListener
from tandem import rpc
from tandem.v1 import pipeline_pb2 as pb

T = TypeVar("T")

HELLO = pb.LinkHello(pipeline_id="pipe", epoch=3, node_id="a", incarnation=5, plan_digest="d1")


async def soon(awaitable: Awaitable[T]) -> T:
    """The result, or a failure instead of a test that hangs."""
    async with asyncio.timeout(30):
        return await awaitable


class Transport(ABC):
    """A place that accepts pipes, and the way there."""

    @abstractmethod
    async def listen(self, acceptor: Acceptor) -> None: ...

    @abstractmethod
    async def dial(self) -> Pipe: ...

    @abstractmethod
    async def close(self) -> None:
        """Everything that listens goes away."""


class GrpcTransport(Transport):
    """Real sockets, made as a node makes them."""

    def __init__(self) -> None:
        self._server = rpc.make_server()
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    @override
    async def listen(self, acceptor: Acceptor) -> None:
        add_pipeline_service(self._server, acceptor)
        await self._server.start()

    @override
    async def dial(self) -> Pipe:
        return DialledPipe(rpc.make_channel(self.address), own_channel=True)

    @override
    async def close(self) -> None:
        await self._server.stop(0)


class MemoryTransport(Transport):
    """No sockets."""

    _listener: MemoryListener | None = None

    @override
    async def listen(self, acceptor: Acceptor) -> None:
        self._listener = MemoryListener(acceptor)

    @override
    async def dial(self) -> Pipe:
        assert self._listener is not None
        return await self._listener.dial()

    @override
    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.close()


class SteppedPipe(Pipe):
    """Another pipe, watched: counts the bytes of messages and lets a test say when the next one may be read."""

    def __init__(self, pipe: Pipe, on_send: Callable[[bytes], None] | None = None) -> None:
        self._pipe = pipe
        self._on_send = on_send
        self._may_read = asyncio.Semaphore(0)
        self._free = True
        self.received = 0

    def hold(self) -> None:
        """From now on each message must be allowed by ``let``."""
        self._free = False

    def let(self, count: int) -> None:
        """Allows so many messages more."""
        for _ in range(count):
            self._may_read.release()

    @override
    async def send(self, data: bytes) -> None:
        await self._pipe.send(data)
        if self._on_send is not None:
            self._on_send(data)

    @override
    async def receive(self) -> bytes | None:
        if not self._free:
            await self._may_read.acquire()
        data = await self._pipe.receive()
        self.received += len(data or b"")
        return data

    @override
    async def close(self) -> None:
        await self._pipe.close()


class Receiver:
    """An acceptor that keeps what a link brings.

    ``over`` is set when it has ended, ``error`` is then what ended it.
    """

    def __init__(
        self,
        *,
        limited: bool = True,
        held: bool = False,
        deadline: float = 30.0,
        refuse: Callable[[pb.LinkHello], None] | None = None,
    ) -> None:
        self._limited = limited
        self._held = held
        self._deadline = deadline
        self._refuse = refuse
        self.entries: asyncio.Queue[frames.Entry] = asyncio.Queue()
        self.hello: pb.LinkHello | None = None
        self.pipe: SteppedPipe | None = None
        self.sent_up: list[bytes] = []
        self.error: BaseException | None = None
        self.ready = asyncio.Event()
        self.over = asyncio.Event()
        self.inner: asyncio.Task[None] | None = None

    async def __call__(self, pipe: Pipe) -> None:
        self.inner = asyncio.create_task(self._serve(pipe))
        try:
            await self.inner
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.inner.cancel()
            self.over.set()

    async def _serve(self, pipe: Pipe) -> None:
        self.pipe = SteppedPipe(pipe, self.sent_up.append)
        link, self.hello = await IncomingLink.accept(self.pipe, self._verify, deadline=self._deadline)
        if self._held:
            self.pipe.hold()
        self.ready.set()
        while (entry := await link.receive()) is not None:
            await self.entries.put(entry)

    def _verify(self, hello: pb.LinkHello) -> bool:
        if self._refuse is not None:
            self._refuse(hello)
        return self._limited

    async def take(self, count: int) -> list[frames.Entry]:
        """The next entries, in order."""
        return [await soon(self.entries.get()) for _ in range(count)]


@asynccontextmanager
async def linked(transport: Transport, receiver: Receiver) -> AsyncIterator[OutgoingLink]:
    """A link to the receiver; closed, and the receiver ended, when the block ends."""
    await transport.listen(receiver)
    link = await OutgoingLink.open(await transport.dial(), HELLO)
    try:
        await soon(receiver.ready.wait())
        yield link
    finally:
        await soon(link.close())
        await soon(receiver.over.wait())
