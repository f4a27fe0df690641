"""What a parser reports: small immutable records, in the order in which they became certain."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the visible answer, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the thought before or between answers, never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins: sent once per call, before its arguments. `call_id` is set where the text carries one so early."""

    index: int
    name: str
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """The next piece of the JSON text of a call's arguments, never empty."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call is over. `arguments` is the concatenation of its deltas.

    `warning` says what is wrong with it (cut off, invalid JSON, an undeclared name); `call_id` is the identifier
    that the text carried, wherever in the call it stood.
    """

    index: int
    arguments: str
    warning: str | None = None
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Warning:  # noqa: A001
    """Something that the client's developer should know and that belongs to no call."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The last event: why the generation ended."""

    reason: FinishReason


Event = Content | Reasoning | CallStart | ArgumentsDelta | CallEnd | Warning | Finish
