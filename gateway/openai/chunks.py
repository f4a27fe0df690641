"""What all chunks of one stream share: their head, written once, and the token counts at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from gateway.openai.usage import Usage
from tandem.v1 import generation_pb2

quote: Final = json.encoder.encode_basestring_ascii
"""A JSON string of a text. Plain ASCII: some clients take U+2028 and its like for the end of a line."""

DONE: Final = "data: [DONE]\n\n"


@dataclass(frozen=True)
class AnswerHead:
    """What an answer says of itself, the same in all its chunks. ``fingerprint`` names checkpoint and versions."""

    completion_id: str
    created: int
    model: str
    fingerprint: str | None = None

    def with_fingerprint(self, fingerprint: str | None) -> AnswerHead:
        """The same head with a fingerprint."""
        return replace(self, fingerprint=fingerprint)

    def to_json(self, kind: str) -> dict[str, Any]:
        """The first members of a response or chunk of the given object kind."""
        head = {"id": self.completion_id, "object": kind, "created": self.created, "model": self.model}
        return head if self.fingerprint is None else {**head, "system_fingerprint": self.fingerprint}

    def event(self, kind: str, choices: str, usage: Usage | None = None, *, show_usage: bool = False) -> str:
        """One event of a stream. ``choices`` is JSON; with ``show_usage`` the counts are there, null or not."""
        head = json.dumps(self.to_json(kind), separators=(",", ":"))[:-1]
        counts = "null" if usage is None else json.dumps(usage.to_json(), separators=(",", ":"))
        tail = f',"usage":{counts}' if show_usage else ""
        return f'data: {head},"choices":{choices}{tail}}}\n\n'

    def split(self, kind: str, *, show_usage: bool) -> tuple[str, str]:
        """What stands before and after the choices in each event of a stream."""
        mark = "\0"
        before, _, after = self.event(kind, mark, show_usage=show_usage).partition(mark)
        return before, after


class StreamWriter(Protocol):
    """Turns the events of an answer's generations into the text of its stream."""

    def opening(self) -> str:
        """What is sent before anything has come."""

    def heartbeat(self) -> str:
        """A chunk that changes nothing; empty when all choices have ended."""

    def feed(self, number: int, events: Sequence[generation_pb2.GenerationEvent]) -> str:
        """The chunks for some events of one generation, empty when they show nothing. Raises what ended it badly."""

    def closing(self) -> str:
        """What ends the stream."""
