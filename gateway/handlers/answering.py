"""Sending an answer, plain or streamed, whatever its dialect."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final, TypeVar

from aiohttp import web

from gateway.auth import ApiKeys
from gateway.cluster.client import ClusterClient
from gateway.errors import problem_of
from gateway.generation import Answer, Events
from gateway.limits import Limits
from gateway.middleware import INTERNAL, REQUEST_ID
from gateway.openai.chunks import AnswerHead, StreamWriter
from gateway.sse import EventStream
from tandem.errors import TandemError

logger = logging.getLogger(__name__)

CLUSTER: Final = web.AppKey("cluster", ClusterClient)
LIMITS: Final = web.AppKey("limits", Limits)
KEYS: Final = web.AppKey("keys", ApiKeys)
INLINE_BYTES: Final = 64 * 1024
"""A body up to this size is read on the event loop, which takes a few milliseconds; a larger one in a thread."""

_READABLE_ENCODINGS: Final = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
"""What aiohttp unpacks; the last two only where they are installed: elsewhere it has refused the request itself."""

WARNING: Final = "x-tandem-warning"
"""Header of an answer that does not hold all that its request asked for."""
_LONGEST_WARNING: Final = 2000

R = TypeVar("R")


def make_id(prefix: str) -> str:
    """A new id for an answer."""
    return f"{prefix}-{secrets.token_hex(12)}"


async def read_request(request: web.Request, read: Callable[[bytes], R]) -> R:
    """What ``read``, a pure function, makes of the whole body; raises what it raises.

    A body that is too large, broken, too slow or packed in an unknown way is answered with a 4xx. Cancellation leaves
    a reading thread to end by itself, in a second or two.
    """
    if request.headers.get("Content-Encoding", "").lower() not in _READABLE_ENCODINGS:
        raise web.HTTPUnsupportedMediaType
    try:
        async with asyncio.timeout(request.app[LIMITS].upload):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="The request's body did not arrive in time.") from None
    return read(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(read, body)


def json_response(value: Any) -> web.Response:
    """A plain answer."""
    return web.Response(text=json.dumps(value), content_type="application/json")


async def stream_answer(
    request: web.Request, answer: Answer, make_writer: Callable[[str | None], StreamWriter]
) -> web.StreamResponse:
    """Streams an answer; ``make_writer`` takes the system fingerprint, None when it is not known yet.

    The headers wait until the head has accepted everything, so that what is wrong before that is a plain error; but
    no longer than one heartbeat: a model may have to be loaded first. Later errors come in band and end the stream.
    When the client goes, cancellation ends the generations.
    """
    limits = request.app[LIMITS]
    opening = asyncio.create_task(answer.open())
    try:
        await asyncio.wait({opening}, timeout=limits.heartbeat)
        if opening.done():
            opening.result()
        writer = make_writer(answer.route.fingerprint() if opening.done() and answer.route is not None else None)
        stream = EventStream(request, writer.heartbeat, limits.heartbeat)
        _warn(request, answer, stream.response)
        try:
            async with stream:
                await stream.write(writer.opening())
                await _stream(request, opening, answer, writer, stream)
        except ConnectionError:
            logger.debug("request %s: the client has gone", request[REQUEST_ID])
        return stream.response
    finally:
        opening.cancel()
        try:
            await asyncio.gather(opening, return_exceptions=True)
        finally:
            answer.close()


async def _stream(
    request: web.Request, opening: asyncio.Task[None], answer: Answer, writer: StreamWriter, stream: EventStream
) -> None:
    """Writes the answer behind its first chunk, and whatever goes wrong, but for a client that has gone."""
    try:
        await opening
        await answer.run(writer.feed, stream.write)
        await stream.write(writer.closing())
    except TandemError as error:
        logger.warning("request %s ended in band: %s", request[REQUEST_ID], error.message)
        await stream.write(f"data: {problem_of(error).body()}\n\n")
    except ConnectionError:
        raise
    except Exception:
        logger.exception("request %s failed in its stream", request[REQUEST_ID])
        await stream.write(f"data: {INTERNAL.body()}\n\n")


async def plain_answer(
    request: web.Request,
    answer: Answer,
    head: AnswerHead,
    feed: Callable[[int, Events], None],
    to_json: Callable[[AnswerHead], Any],
) -> web.Response:
    """Waits for the whole answer, fed event by event to ``feed``, and sends what ``to_json`` makes of it."""

    def collect(number: int, events: Events) -> str:
        feed(number, events)
        return ""

    try:
        await answer.open()
        await answer.run(collect, _write_nothing)
        fingerprint = answer.route.fingerprint() if answer.route is not None else None
        response = json_response(to_json(head.with_fingerprint(fingerprint)))
        _warn(request, answer, response)
        return response
    finally:
        answer.close()


def _warn(request: web.Request, answer: Answer, response: web.StreamResponse) -> None:
    """Says in a header, and in the log, what of the request is not held; nothing once the headers are sent."""
    if not answer.warnings:
        return
    text = "; ".join(answer.warnings)
    logger.info("request %s: %s", request[REQUEST_ID], text)
    printable = "".join(char if " " <= char <= "~" else "?" for char in text)
    response.headers[WARNING] = printable[:_LONGEST_WARNING]


async def _write_nothing(_text: str) -> None:
    """A plain answer is written when it is whole."""
