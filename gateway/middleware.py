"""What every response has: an id, OpenAI's error shape, the time it took; and what every request needs: a key."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.auth import ApiKeys
from gateway.errors import INVALID, SERVER, Problem, problem_of, shorten
from tandem.errors import TandemError

logger = logging.getLogger(__name__)

REQUEST_ID: Final = web.RequestKey("request_id", str)
STARTED: Final = web.RequestKey("started", float)
_CLIENTS_ID_HEADERS: Final = ("X-Client-Request-Id", "x-request-id")
_LONGEST_ID: Final = 128
_NOT_IN_AN_ID: Final = re.compile(r"[^!-~]")

INTERNAL: Final = Problem(500, SERVER, "The server had an error while processing your request.", "internal_error")
UNSUPPORTED_ENCODING: Final = Problem(
    415,
    INVALID,
    "The body's Content-Encoding cannot be read here: send it as it is, or with gzip or deflate.",
    "unsupported_encoding",
    headers={"Accept-Encoding": "gzip, deflate"},
)


def problem_response(problem: Problem) -> web.Response:
    """An error as a whole response."""
    return web.Response(
        status=problem.status, text=problem.body(), content_type="application/json", headers=problem.headers
    )


def begin(request: web.BaseRequest) -> None:
    """Gives a request its id, and remembers when it came."""
    request[REQUEST_ID] = f"req_{secrets.token_hex(16)}"
    request[STARTED] = time.monotonic()


def own_headers(request: web.BaseRequest) -> dict[str, str]:
    """The headers that every response carries."""
    took = time.monotonic() - request[STARTED]
    return {"x-request-id": request[REQUEST_ID], "openai-processing-ms": str(round(took * 1000))}


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request an id and logs how it went.

    Nothing that the client sent is logged but method, path and the id that the client gave it.
    """
    begin(request)
    status = "gone"
    try:
        response = await handler(request)
        status = str(response.status)
        return response
    finally:
        took = time.monotonic() - request[STARTED]
        ids = request[REQUEST_ID] + clients_id(request)
        path = shorten(request.rel_url.raw_path)  # decoded, it could end the line
        logger.info("%s %s %s %.3fs %s", request.method, path, status, took, ids)


def clients_id(request: web.BaseRequest) -> str:
    """The id that a client gave its request, fit for a line of the log; empty without one."""
    given = next((request.headers[name] for name in _CLIENTS_ID_HEADERS if request.headers.get(name)), "")
    return f" client={_NOT_IN_AN_ID.sub('?', given[:_LONGEST_ID])}" if given else ""


@web.middleware
async def shape_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever a handler raises into an error response; a bug is logged and told as a 500 without its words."""
    try:
        return await handler(request)
    except TandemError as error:
        return problem_response(problem_of(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem_response(http_problem(request, error))
    except web.RequestPayloadError:
        return problem_response(Problem(400, INVALID, "The request's body cannot be read.", "bad_request"))
    except ConnectionError:
        raise
    except Exception:
        logger.exception("request %s failed", request[REQUEST_ID])
        return problem_response(INTERNAL)


def require_key(keys: ApiKeys) -> Middleware:
    """Lets in whoever shows one of the keys."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        problem = keys.refuse(request.path, request.headers)
        return problem_response(problem) if problem is not None else await handler(request)

    return check


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal handler: the headers that each response carries, streams included."""
    if REQUEST_ID in request:
        response.headers.update(own_headers(request))


def http_problem(request: web.BaseRequest, error: web.HTTPException) -> Problem:
    """What a client is told about an error of HTTP itself."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    where = f"{request.method} {shorten(request.path)}"
    match error.status:
        case 404:
            return Problem(404, INVALID, f"Unknown request URL: {where}.", "unknown_url")
        case 405:
            return Problem(405, INVALID, f"Method not allowed: {where}.", "method_not_allowed", headers=headers)
        case 413:
            return Problem(413, INVALID, "The request's body is too large.", "request_too_large")
        case 415:
            return UNSUPPORTED_ENCODING
        case 417:
            return Problem(417, INVALID, "Of 'Expect', only 100-continue is known here.", "bad_request")
        case status if status < 500:
            return Problem(status, INVALID, error.reason or "The request cannot be read.", "bad_request")
        case status:
            return Problem(status, SERVER, error.reason or "The server had an error.", "internal_error")
