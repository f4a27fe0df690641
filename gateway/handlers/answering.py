"""Sending an answer, plain or streamed, whatever its dialect."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

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


def make_id(prefix: str) -> str:
    """A new id for an answer."""
    return f"{prefix}-{secrets.token_hex(12)}"


async def read_body(request: web.Request) -> bytes:
    """The whole body. One that is too large, broken or too slow is answered with a 4xx."""
    try:
        async with asyncio.timeout(request.app[LIMITS].upload):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="The request's body did not arrive in time.") from None


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
    answer: Answer, head: AnswerHead, feed: Callable[[int, Events], None], to_json: Callable[[AnswerHead], Any]
) -> web.Response:
    """Waits for the whole answer, fed event by event to ``feed``, and sends what ``to_json`` makes of it."""

    def collect(number: int, events: Events) -> str:
        feed(number, events)
        return ""

    try:
        await answer.open()
        await answer.run(collect, _write_nothing)
        fingerprint = answer.route.fingerprint() if answer.route is not None else None
        return json_response(to_json(head.with_fingerprint(fingerprint)))
    finally:
        answer.close()


async def _write_nothing(_text: str) -> None:
    """A plain answer is written when it is whole."""
