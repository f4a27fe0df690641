"""The exception tree: one page, so that every error has one place and one name.

TandemError
├── InvalidRequestError        the caller's mistake (400, INVALID_ARGUMENT); names the parameter
│   └── ContextOverflowError   prompt and answer do not fit the model's context
├── NotFoundError              no such model, node or pipeline (404, NOT_FOUND)
├── ConflictError              the name or id is taken (409, ALREADY_EXISTS)
├── PreconditionError          stale epoch, other cluster, other digest, other version (FAILED_PRECONDITION)
├── OverloadedError            a queue is full or memory is short (429, RESOURCE_EXHAUSTED)
├── UnavailableError           a part of the cluster is missing; a later retry makes sense (503, UNAVAILABLE)
│   ├── StageLostError         a stage of the pipeline died or does not answer
│   └── LinkError              a link broke, was cut or brought garbage
├── UnsupportedModelError      the architecture cannot be cut or loaded (FAILED_PRECONDITION)
├── CheckpointError            a checkpoint's file is missing or damaged; names the file
└── SettingsError              an unknown key or a value that does not fit; names the key
"""

from __future__ import annotations

from typing import TypeVar, cast

E = TypeVar("E", bound=BaseException)


def first_of(group: BaseExceptionGroup[E]) -> E:
    """The error that ended a task group, however deep the groups are nested: the others were cancelled for it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return cast(E, error)


class TandemError(Exception):
    """Base of everything that Tandem raises on purpose.

    ``code`` is the machine-readable word of the API's error body, ``message`` is for people.
    """

    code = "internal_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequestError(TandemError):
    """The request is wrong; sending it again will not help. ``param`` names the field at fault."""

    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.param = param


class ContextOverflowError(InvalidRequestError):
    """Prompt and answer need more tokens than the model's context holds."""

    code = "context_length_exceeded"


class NotFoundError(TandemError):
    """There is no such model, node, pipeline or generation."""

    code = "not_found"


class ConflictError(TandemError):
    """The id or the name is in use by somebody else."""

    code = "conflict"


class PreconditionError(TandemError):
    """The caller's view is stale or belongs to another cluster, version or plan."""

    code = "failed_precondition"


class OverloadedError(TandemError):
    """A bounded queue is full, or memory is short. ``retry_after`` is in seconds; zero means that no retry helps."""

    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int = 1, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class UnavailableError(TandemError):
    """A part of the cluster is missing or loading; a retry after ``retry_after`` seconds makes sense."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after: int = 1, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class StageLostError(UnavailableError):
    """A stage of the pipeline died, was cut off or does not answer within its deadline."""

    code = "stage_lost"


class LinkError(UnavailableError):
    """A link broke, or its other end spoke out of turn."""

    code = "link_lost"


class UnsupportedModelError(TandemError):
    """The architecture cannot be cut, or cannot be loaded at all; the message names it."""

    code = "unsupported_model"


class CheckpointError(TandemError):
    """A file of the checkpoint is missing or damaged; the message names it."""

    code = "bad_checkpoint"


class SettingsError(TandemError):
    """A setting is unknown or has a value that does not fit; the message names the key and where it was found."""

    code = "bad_setting"
