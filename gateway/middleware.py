"""What every response has: an id, OpenAI's error shape, the time it took; and what every request needs: a key."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.auth import ApiKeys
from gateway.errors import INVALID, SERVER, Problem, problem_of
from tandem.errors import TandemError

logger = logging.getLogger(__name__)

REQUEST_ID: Final = web.RequestKey("request_id", str)
STARTED: Final = web.RequestKey("started", float)

INTERNAL: Final = Problem(500, SERVER, "The server had an error while processing your request.", "internal_error")


def problem_response(problem: Problem) -> web.Response:
    """An error as a whole response."""
    return web.Response(
        status=problem.status, text=problem.body(), content_type="application/json", headers=problem.headers
    )


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request an id and logs how it went; nothing that the client sent is logged but method and path."""
    request[REQUEST_ID] = f"req_{secrets.token_hex(16)}"
    request[STARTED] = time.monotonic()
    status = "gone"
    try:
        response = await handler(request)
        status = str(response.status)
        return response
    finally:
        took = time.monotonic() - request[STARTED]
        logger.info("%s %s %s %.3fs %s", request.method, request.path[:200], status, took, request[REQUEST_ID])


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
        return problem_response(_http_problem(request, error))
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
        response.headers["x-request-id"] = request[REQUEST_ID]
        response.headers["openai-processing-ms"] = str(round((time.monotonic() - request[STARTED]) * 1000))


def _http_problem(request: web.Request, error: web.HTTPException) -> Problem:
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    where = f"{request.method} {request.path[:200]}"
    match error.status:
        case 404:
            return Problem(404, INVALID, f"Unknown request URL: {where}.", "unknown_url")
        case 405:
            return Problem(405, INVALID, f"Method not allowed: {where}.", "method_not_allowed", headers=headers)
        case 413:
            return Problem(413, INVALID, "The request's body is too large.", "request_too_large")
        case status if status < 500:
            return Problem(status, INVALID, error.reason or "The request cannot be read.", "bad_request")
        case status:
            return Problem(status, SERVER, error.reason or "The server had an error.", "internal_error")
