"""One choice of an answer: a generation's events, read into the deltas of which streams and plain answers are made."""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple

from gateway.errors import from_failed
from gateway.openai.custom_tools import CustomInput
from gateway.openai.logprobs import TokenReport, read_reports
from tandem.errors import TandemError
from tandem.v1 import generation_pb2

logger = logging.getLogger(__name__)


class Delta(NamedTuple):
    """Something to add to a choice.

    ``content`` and ``reasoning`` add ``text``; ``call`` opens call number ``call`` of the tool ``text`` with
    ``call_id``; ``arguments`` adds ``text`` to it, to its input with ``custom``; ``finish`` ends the choice for the
    reason ``text``.
    """

    kind: Literal["content", "reasoning", "call", "arguments", "finish"]
    text: str
    call: int = 0
    call_id: str = ""
    custom: bool = False


class Choice:
    """State of one choice. ``finished`` is set by the event that ended it; what comes later is not read.

    With ``legacy``, calls beyond the first are left out: the old form has room for one. ``custom`` names the tools
    whose calls carry an input in place of arguments.
    """

    def __init__(
        self,
        index: int,
        *,
        top_logprobs: int | None = None,
        legacy: bool = False,
        custom: frozenset[str] = frozenset(),
    ) -> None:
        self.index = index
        self.finished: generation_pb2.Finished | None = None
        self._top_logprobs = top_logprobs
        self._legacy = legacy
        self._calls = 0
        self._has_arguments = False
        self._custom = custom
        self._input: CustomInput | None = None
        self._reports: list[TokenReport] = []

    def read(self, event: generation_pb2.GenerationEvent) -> Delta | None:
        """The delta that an event brings, or None. Raises the error of a ``Failed`` event."""
        if self.finished is not None:
            return None
        if self._top_logprobs is not None and event.token_ids:
            self._reports.extend(read_reports(event, self._top_logprobs))
        match event.WhichOneof("event"):
            case "content":
                text = event.content
                return Delta("content", text) if text else None
            case "tool_call_arguments":
                return self._arguments(event.tool_call_arguments)
            case "reasoning":
                return Delta("reasoning", event.reasoning) if event.reasoning else None
            case "tool_call_start":
                return self._start(event.tool_call_start)
            case "tool_call_end":
                return self._end(event.tool_call_end)
            case "finished":
                return self._finish(event.finished)
            case "failed":
                raise from_failed(event.failed)
        return None

    def take_reports(self) -> list[TokenReport]:
        """The tokens read since the last call, with their log probabilities, when these are asked for."""
        reports, self._reports = self._reports, []
        return reports

    def _start(self, start: generation_pb2.ToolCallStart) -> Delta | None:
        self._calls += 1
        self._has_arguments = False
        if self._legacy and self._calls > 1:
            return None
        self._input = CustomInput() if start.name in self._custom else None
        return Delta("call", start.name, start.index, start.tool_call_id, start.name in self._custom)

    def _arguments(self, arguments: generation_pb2.ToolCallArguments) -> Delta | None:
        if not arguments.arguments_delta or (self._legacy and self._calls > 1):
            return None
        self._has_arguments = True
        if self._input is None:
            return Delta("arguments", arguments.arguments_delta, arguments.index)
        text = self._input.feed(arguments.arguments_delta)
        return Delta("arguments", text, arguments.index, custom=True) if text else None

    def _end(self, end: generation_pb2.ToolCallEnd) -> Delta | None:
        """A call whose arguments never came in pieces gets them whole: an empty string is no JSON, but an input."""
        if end.warning:
            logger.info("call %s of %s: %s", end.tool_call.tool_call_id, end.tool_call.name, end.warning)
        if self._input is not None:
            text = "" if self._has_arguments else self._input.feed(end.tool_call.arguments_json)
            text += self._input.finish()
            return Delta("arguments", text, end.index, custom=True) if text else None
        if self._has_arguments or (self._legacy and self._calls > 1):
            return None
        return Delta("arguments", end.tool_call.arguments_json or "{}", end.index)

    def _finish(self, finished: generation_pb2.Finished) -> Delta:
        """The reason follows from what was said, not from what the head calls it, but for the token limit."""
        if finished.reason == generation_pb2.FINISH_REASON_CANCELLED:
            raise TandemError("the generation was cancelled", code="cancelled")
        self.finished = finished
        if finished.reason == generation_pb2.FINISH_REASON_LENGTH:
            return Delta("finish", "length")
        if self._calls:
            return Delta("finish", "function_call" if self._legacy else "tool_calls")
        return Delta("finish", "stop")
