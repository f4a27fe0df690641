"""Pipes over ``PipelineService.StreamActivations``; messages stay bytes on both sides (``codec.py`` reads them)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from grpc import aio
from typing_extensions import override

from node.links.base import Acceptor, Pipe
from tandem import rpc
from tandem.errors import LinkError, NotFoundError, PreconditionError, StageLostError, TandemError

SERVICE: Final = "tandem.v1.PipelineService"
_METHOD: Final = f"/{SERVICE}/StreamActivations"
_KEPT: Final = (PreconditionError, NotFoundError, StageLostError)
"""Refusals that keep their kind; whatever else happened to the call, the link is lost."""


class DialledPipe(Pipe):
    """The end that dialled; with ``own_channel`` the channel is closed with the pipe."""

    def __init__(self, channel: aio.Channel, *, own_channel: bool = False) -> None:
        self._channel = channel if own_channel else None
        method: Callable[[], aio.StreamStreamCall[bytes, bytes]] = channel.stream_stream(_METHOD)
        self._call = method()
        # ``call.write`` overwrites the status of a call that the peer has ended with "Internal error from Core", and
        # with it the peer's reason; what it calls underneath leaves the status alone.
        core = getattr(self._call, "_cython_call", None)
        self._write: Callable[[bytes], Awaitable[None]] = getattr(core, "send_serialized_message", self._call.write)
        self._connected = False
        self._closed = False

    @override
    async def send(self, data: bytes) -> None:
        try:
            if not self._connected:
                await self._call.wait_for_connection()
                self._connected = True
            if self._call.done():
                raise await self._reason()
            await self._write(data)
        except (aio.AioRpcError, aio.BaseError, asyncio.InvalidStateError) as error:
            raise await self._reason() from error
        except asyncio.CancelledError:
            rpc.raise_if_cancelled()
            raise await self._reason() from None

    @override
    async def receive(self) -> bytes | None:
        if self._closed:
            raise LinkError("the link is closed")
        try:
            data = await self._call.read()
        except (aio.AioRpcError, aio.BaseError, asyncio.InvalidStateError) as error:
            raise await self._reason() from error
        except asyncio.CancelledError:
            rpc.raise_if_cancelled()
            raise await self._reason() from None
        if data is aio.EOF:
            if await self._call.code() is not grpc.StatusCode.OK:
                raise await self._reason()
            return None
        assert isinstance(data, bytes)
        return data

    @override
    async def close(self) -> None:
        self._closed = True
        self._call.cancel()
        if self._channel is not None:
            await self._channel.close()

    async def _reason(self) -> TandemError:
        """Why the call is of no further use. A call whose status does not come is cancelled."""
        try:
            async with asyncio.timeout(rpc.UNARY_DEADLINE):
                code = await self._call.code()
        except TimeoutError:
            self._call.cancel()
            return LinkError("the link broke")
        if self._closed:
            return LinkError("the link is closed")
        if code is grpc.StatusCode.OK:
            return LinkError("the peer closed the link")
        details = await self._call.details() or code.name
        metadata = await self._call.trailing_metadata()
        error = rpc.from_rpc_error(aio.AioRpcError(code, aio.Metadata(), metadata, details))
        return error if isinstance(error, _KEPT) else LinkError(f"link lost: {details}")


class AcceptedPipe(Pipe):
    """The end that was dialled; lives as long as its handler."""

    def __init__(self, context: aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._closed = False

    @override
    async def send(self, data: bytes) -> None:
        if self._closed:
            raise LinkError("the link is closed")
        try:
            await self._context.write(data)
        except (aio.AioRpcError, aio.BaseError, asyncio.InvalidStateError) as error:
            raise LinkError("the peer is gone") from error

    @override
    async def receive(self) -> bytes | None:
        if self._closed:
            raise LinkError("the link is closed")
        try:
            data = await self._context.read()
        except (aio.AioRpcError, aio.BaseError, asyncio.InvalidStateError) as error:
            raise LinkError("the peer is gone") from error
        if data is aio.EOF:
            return None
        assert isinstance(data, bytes)
        return data

    @override
    async def close(self) -> None:
        self._closed = True


def add_pipeline_service(server: aio.Server, acceptor: Acceptor) -> None:
    """Serves ``StreamActivations``: each call becomes a pipe for ``acceptor``; its TandemError becomes the status."""

    async def stream(_: AsyncIterator[bytes], context: aio.ServicerContext[Any, Any]) -> None:
        pipe = AcceptedPipe(context)
        try:
            await acceptor(pipe)
        except TandemError as error:
            await rpc.abort(context, error)
        except asyncio.CancelledError:
            # gRPC takes any CancelledError for its own and would then leave the peer without an answer for ever.
            rpc.raise_if_cancelled()
            await rpc.abort(context, LinkError("the link was given up"))
        finally:
            await pipe.close()

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"StreamActivations": handler}),))
