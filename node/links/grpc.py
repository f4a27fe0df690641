"""Pipes over ``PipelineService.StreamActivations``; messages stay bytes on both sides (``codec.py`` reads them)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from grpc import aio
from typing_extensions import override

from node.links.base import Acceptor, Pipe
from tandem import rpc
from tandem.errors import LinkError, TandemError

SERVICE: Final = "tandem.v1.PipelineService"
_METHOD: Final = f"/{SERVICE}/StreamActivations"


class DialledPipe(Pipe):
    """The end that dialled; with ``own_channel`` the channel is closed with the pipe."""

    def __init__(self, channel: aio.Channel, *, own_channel: bool = False) -> None:
        self._channel = channel if own_channel else None
        call: Callable[[], aio.StreamStreamCall[bytes, bytes]] = channel.stream_stream(_METHOD)
        self._call = call()

    @override
    async def send(self, data: bytes) -> None:
        try:
            await self._call.write(data)
        except aio.AioRpcError as error:
            raise _link_error(error) from error
        except (asyncio.InvalidStateError, aio.UsageError) as error:
            raise await self._reason() from error
        except asyncio.CancelledError:
            rpc.raise_if_cancelled()
            raise LinkError("the link is closed") from None

    @override
    async def receive(self) -> bytes | None:
        try:
            data = await self._call.read()
        except aio.AioRpcError as error:
            raise _link_error(error) from error
        except (asyncio.InvalidStateError, aio.UsageError) as error:
            raise LinkError("the link is closed") from error
        except asyncio.CancelledError:
            rpc.raise_if_cancelled()
            raise LinkError("the link is closed") from None
        if data is aio.EOF:
            if await self._call.code() is not grpc.StatusCode.OK:
                raise await self._reason()
            return None
        assert isinstance(data, bytes)
        return data

    @override
    async def close(self) -> None:
        self._call.cancel()
        if self._channel is not None:
            await self._channel.close()

    async def _reason(self) -> TandemError:
        if not self._call.done():
            return LinkError("the link is closed")
        code, details = await self._call.code(), await self._call.details()
        metadata = await self._call.trailing_metadata()
        return _link_error(aio.AioRpcError(code, aio.Metadata(), metadata, details or code.name))


class AcceptedPipe(Pipe):
    """The end that was dialled; lives as long as its handler."""

    def __init__(self, context: aio.ServicerContext[Any, Any]) -> None:
        self._context = context
        self._closed = False

    @override
    async def send(self, data: bytes) -> None:
        try:
            await self._context.write(data)
        except (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError) as error:
            raise LinkError("the peer is gone") from error

    @override
    async def receive(self) -> bytes | None:
        if self._closed:
            raise LinkError("the link is closed")
        try:
            data = await self._context.read()
        except (aio.AioRpcError, aio.UsageError, asyncio.InvalidStateError) as error:
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
        try:
            await acceptor(AcceptedPipe(context))
        except TandemError as error:
            await rpc.abort(context, error)

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"StreamActivations": handler}),))


def _link_error(error: aio.AioRpcError) -> TandemError:
    """Refusals keep their kind; whatever else happened to the call, the link is lost."""
    if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
        return rpc.from_rpc_error(error)
    return LinkError(f"link lost: {error.details() or error.code().name}")
