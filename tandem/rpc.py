"""How every gRPC server and channel of Tandem is made, so that both ends always agree on the options.

The figures behind the options are in ``docs/architecture.md`` (Transport).
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import platform
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, NoReturn, TypeVar, cast

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tandem import errors

T = TypeVar("T")

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024

_SHARED_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Plain keepalive needs 61 s to notice a frozen peer: its watchdog is armed by this undocumented option.
    ("grpc.http2.ping_timeout_ms", 2_000),
)
CHANNEL_OPTIONS: Final = (
    *_SHARED_OPTIONS,
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # A channel is one connection of its own, so that a link never queues behind another call's bytes.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
SERVER_OPTIONS: Final = (
    *_SHARED_OPTIONS,
    # Strictly below the clients' keepalive period, else jitter ends in GOAWAY "too many pings".
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)

UNARY_DEADLINE: Final = 5.0
"""Seconds that a unary call may take where nothing longer is named."""
SETTLE_SECONDS: Final = 0.5
"""For gRPC to end its own tasks after a program has ended its own."""


def make_server() -> aio.Server:
    """A server with Tandem's options and no services yet."""
    return aio.server(options=SERVER_OPTIONS)


def make_channel(address: str) -> aio.Channel:
    """An insecure channel to ``host:port`` over a connection of its own; IPv6 hosts stand in brackets."""
    return aio.insecure_channel(address, options=CHANNEL_OPTIONS)


def add_health_and_reflection(server: aio.Server, services: Sequence[str]) -> health.aio.HealthServicer:
    """Adds ``grpc.health.v1`` and reflection for the named services; all are SERVING until the servicer says else."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return servicer


async def set_serving(servicer: health.aio.HealthServicer, services: Sequence[str], *, serving: bool) -> None:
    """Publishes one status for the named services (the empty name is the whole server)."""
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in services:
        await servicer.set(service, status)


_STATUS: Final[tuple[tuple[type[errors.TandemError], grpc.StatusCode], ...]] = (
    (errors.InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ConflictError, grpc.StatusCode.ALREADY_EXISTS),
    (errors.PreconditionError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.UnsupportedModelError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.CheckpointError, grpc.StatusCode.DATA_LOSS),
    (errors.OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.UnavailableError, grpc.StatusCode.UNAVAILABLE),
)
_CODE_KEY: Final = "tandem-code"
_PARAM_KEY: Final = "tandem-param"
_RETRY_KEY: Final = "tandem-retry-after"


def status_of(error: BaseException) -> grpc.StatusCode:
    """The gRPC status code that stands for an error of ours; INTERNAL for anything else."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INTERNAL


async def abort(context: aio.ServicerContext[Any, Any], error: errors.TandemError) -> NoReturn:
    """Ends the call with the status of ``error``; code, parameter and the pause before a retry travel as trailing
    metadata."""
    metadata = [(_CODE_KEY, error.code)]
    param = getattr(error, "param", None)
    if param:
        metadata.append((_PARAM_KEY, param))
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        metadata.append((_RETRY_KEY, str(retry_after)))
    await context.abort(status_of(error), error.message, tuple(metadata))


def from_rpc_error(error: aio.AioRpcError) -> errors.TandemError:
    """The error of ours behind a failed call; calls that never reached a peer become ``UnavailableError``."""
    trailing = {str(key): value for key, value in (error.trailing_metadata() or ())}
    message = error.details() or error.code().name
    code = trailing.get(_CODE_KEY)
    param = trailing.get(_PARAM_KEY)
    text_code = code if isinstance(code, str) else None
    retry = str(trailing.get(_RETRY_KEY, ""))
    retry_after = int(retry) if retry.isdecimal() else 1
    match error.code():
        case grpc.StatusCode.INVALID_ARGUMENT:
            kind = (
                errors.ContextOverflowError
                if text_code == errors.ContextOverflowError.code
                else errors.InvalidRequestError
            )
            return kind(message, param=param if isinstance(param, str) else None, code=text_code)
        case grpc.StatusCode.NOT_FOUND:
            return errors.NotFoundError(message, code=text_code)
        case grpc.StatusCode.ALREADY_EXISTS:
            return errors.ConflictError(message, code=text_code)
        case grpc.StatusCode.FAILED_PRECONDITION:
            if text_code == errors.UnsupportedModelError.code:
                return errors.UnsupportedModelError(message)
            return errors.PreconditionError(message, code=text_code)
        case grpc.StatusCode.DATA_LOSS:
            return errors.CheckpointError(message, code=text_code)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.OverloadedError(message, retry_after=retry_after, code=text_code)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            if text_code == errors.StageLostError.code:
                return errors.StageLostError(message, retry_after=retry_after)
            return errors.UnavailableError(message, retry_after=retry_after, code=text_code)
        case _:
            return errors.TandemError(message, code=text_code)


async def unary(call: Awaitable[T]) -> T:
    """The answer of a unary call.

    Raises the error of ours for whatever happened. gRPC cancels the *waiter* when somebody closes the channel: that
    becomes ``UnavailableError``; only a real cancellation stays one.
    """
    try:
        return await call
    except aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    except aio.UsageError as error:
        raise errors.UnavailableError("the connection is closed") from error
    except asyncio.CancelledError:
        raise_if_cancelled()
        raise errors.UnavailableError("the connection was closed") from None


async def responses(call: aio.UnaryStreamCall[Any, T]) -> AsyncGenerator[T]:
    """The answers of a streamed call; raises as ``unary``. Closing the iterator cancels the call."""
    try:
        while (response := await unary(call.read())) is not aio.EOF:
            yield cast(T, response)
    finally:
        call.cancel()


def raise_if_cancelled() -> None:
    """Raises CancelledError if this very task was cancelled, and not merely the call it waits for."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def tune_process() -> None:
    """Makes this process fit for moving tensors: allocator thresholds (glibc) and the interpreter's switch interval.

    Without the thresholds each buffer above 128 KiB is mapped and page-faulted anew, which triples the time of a
    32 MB message; with the default switch interval the loop waits 5 ms for a busy MLX thread.
    """
    sys.setswitchinterval(0.0005)
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
        libc.mallopt(m_top_pad, 64 << 20)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs ``main`` to its end on uvloop where it is installed, else on asyncio's own loop; then waits a little for
    the handlers of gRPC's that are ending, because it logs a traceback for each that the end of the loop interrupts."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    try:
        factory = importlib.import_module("uvloop").new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_settled(main))


async def _settled(main: Coroutine[Any, Any, T]) -> T:
    try:
        return await main
    finally:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=SETTLE_SECONDS)
