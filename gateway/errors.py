"""Errors as OpenAI's clients expect them: a status, headers that steer retries, one JSON shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import grpc
from grpc import aio

from tandem import errors, rpc
from tandem.v1 import generation_pb2

INVALID: Final = "invalid_request_error"
RATE_LIMIT: Final = "rate_limit_error"
SERVER: Final = "server_error"
HEAD_LOST: Final = "head_lost"
"""Code of a stream that broke between the gateway and the head."""


@dataclass(frozen=True)
class Problem:
    """An error as it is sent: HTTP status, the four members of OpenAI's error object, headers."""

    status: int
    kind: str
    message: str
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> str:
        """The error object as JSON text without a line break, for a response and for a stream alike."""
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": fields})


def problem_of(error: errors.TandemError) -> Problem:
    """What a client is told about an error of ours."""
    status, kind = 500, SERVER
    headers: dict[str, str] = {}
    match error:
        case errors.InvalidRequestError() | errors.UnsupportedModelError():
            status, kind = 400, INVALID
        case errors.NotFoundError():
            status, kind = 404, INVALID
        case errors.ConflictError():
            status, kind = 409, INVALID
        case errors.OverloadedError():
            status, kind = 429, RATE_LIMIT
            headers = _retry(error.retry_after)
        case errors.UnavailableError():
            status, headers = 503, _retry(error.retry_after)
        case errors.PreconditionError():
            status, headers = 503, _retry(1)
        case errors.CheckpointError():
            headers = _retry(0)
        case _:
            pass
    param = error.param if isinstance(error, errors.InvalidRequestError) else None
    return Problem(status, kind, error.message, error.code, param, headers)


def from_call(error: aio.AioRpcError) -> errors.TandemError:
    """The error behind a failed call to the head; a connection that broke has the code ``head_lost``."""
    if is_transport(error):
        return errors.UnavailableError(f"the head of the pipeline is gone: {error.details()}", code=HEAD_LOST)
    return rpc.from_rpc_error(error)


def is_transport(error: aio.AioRpcError) -> bool:
    """Whether the call failed on its way, so that no servicer of ours has answered it."""
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return False
    return not any(key == "tandem-code" for key, _ in error.trailing_metadata() or ())


def from_failed(failed: generation_pb2.Failed) -> errors.TandemError:
    """The error behind a ``Failed`` event, by its code; unknown codes are judged by what else the event says."""
    kind = _KINDS.get(failed.code)
    if kind is None:
        kind = _kind_of_unknown(failed)
    code = failed.code or None
    if issubclass(kind, errors.InvalidRequestError):
        return kind(failed.message, param=failed.param or None, code=code)
    if issubclass(kind, errors.OverloadedError | errors.UnavailableError):
        return kind(failed.message, retry_after=failed.retry_after_seconds, code=code)
    return kind(failed.message, code=code)


def _kind_of_unknown(failed: generation_pb2.Failed) -> type[errors.TandemError]:
    if failed.retry_after_seconds:
        return errors.UnavailableError
    return errors.InvalidRequestError if failed.param else errors.TandemError


def shorten(text: str, most: int = 200) -> str:
    """A text of the client's for a message: its beginning, with an ellipsis where there is more."""
    return text if len(text) <= most else f"{text[:most]}…"


def _retry(seconds: int) -> dict[str, str]:
    return {"retry-after": str(seconds)} if seconds > 0 else {"x-should-retry": "false"}


def _tree(root: type[errors.TandemError]) -> Iterator[type[errors.TandemError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)


_KINDS: Final[dict[str, type[errors.TandemError]]] = {kind.code: kind for kind in _tree(errors.TandemError)} | {
    "model_not_found": errors.NotFoundError,
}
