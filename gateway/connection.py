"""What aiohttp answers before any handler runs: requests that are not HTTP get OpenAI's error shape and an id too."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

from aiohttp import http_exceptions, web
from typing_extensions import override

from gateway.errors import INVALID, Problem
from gateway.middleware import (
    INTERNAL,
    REQUEST_ID,
    UNSUPPORTED_ENCODING,
    begin,
    http_problem,
    own_headers,
    problem_response,
)

logger = logging.getLogger(__name__)

_LONGEST_REASON: Final = 100


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to a request that cannot be read, or whose handling failed; the connection ends with it.

        Raises ``ConnectionError`` when a response has begun: it then ends unfinished, for the client to see.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun")
        if isinstance(exc, http_exceptions.HttpProcessingError):
            problem = _not_http(exc)
        else:
            problem = INTERNAL
            logger.error("the connection of %s failed", request.remote, exc_info=exc)
        response = _refuse(request, problem)
        response.force_close()
        return response

    @override
    def log_exception(self, *args: Any, **about: Any) -> None:
        """Logs what nobody expected; a body that cannot be unpacked has been answered with a 400, and is no news."""
        if not isinstance(about.get("exc_info"), web.RequestPayloadError):
            logger.error(*args, **about)


class Server(web.Server):
    """Makes a ``Connection`` of each client's connection, in front of the application that ``server`` calls."""

    def __init__(self, server: web.Server) -> None:
        super().__init__(
            self._handle,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            access_log=None,
        )
        self._application = server.request_handler

    @override
    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The application's response, or that to what it refuses before its middlewares: an unknown ``Expect``."""
        try:
            return await self._application(request)
        except web.HTTPException as error:
            return _refuse(request, http_problem(request, error))


class Runner(web.AppRunner):
    """Runs an application behind such connections."""

    @override
    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server())


def _refuse(request: web.BaseRequest, problem: Problem) -> web.Response:
    """The response to a request that no middleware has seen."""
    begin(request)
    response = problem_response(problem)
    response.headers.update(own_headers(request))
    logger.info("refused: %s %s %s", problem.status, request[REQUEST_ID], problem.message)
    return response


def _not_http(error: http_exceptions.HttpProcessingError) -> Problem:
    """What is told of a request that is not HTTP; of its own text, which may hold a key, nothing is repeated."""
    if isinstance(error, http_exceptions.ContentEncodingError):
        return UNSUPPORTED_ENCODING
    match error:
        case http_exceptions.LineTooLong():
            reason = "its URL or a header is too long"
        case http_exceptions.InvalidURLError():
            reason = "its URL cannot be read"
        case http_exceptions.BadStatusLine() | http_exceptions.InvalidHeader():
            reason = "its first line or a header cannot be read"
        case _:
            reason = error.message.partition("\n")[0].partition(":")[0].rstrip(".")[:_LONGEST_REASON]
    return Problem(HTTPStatus.BAD_REQUEST, INVALID, f"This is not a valid HTTP request: {reason}.", "bad_request")
