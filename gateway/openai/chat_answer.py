"""The plain chat answer: the same deltas as in a stream, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gateway.openai.choice import Choice, Delta
from gateway.openai.chunks import AnswerHead
from gateway.openai.logprobs import TokenReport, chat_logprobs
from gateway.openai.usage import Usage
from tandem.v1 import generation_pb2

KIND: Final = "chat.completion"


class ChatMessage:
    """Adds up the deltas of one choice."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[Delta, list[str]]] = []

    def add(self, delta: Delta) -> None:
        """Takes the next delta."""
        match delta.kind:
            case "content":
                self._content.append(delta.text)
            case "reasoning":
                self._reasoning.append(delta.text)
            case "call":
                self._calls.append((delta, []))
            case "arguments":
                self._calls[-1][1].append(delta.text)
            case "finish":
                self.reason = delta.text

    def to_json(self, *, legacy: bool) -> dict[str, Any]:
        """The ``message`` object; content is null when there is none beside calls."""
        text = "".join(self._content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self._calls and not text else text,
            "refusal": None,
        }
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        calls = [_call(opened, "".join(pieces)) for opened, pieces in self._calls]
        if calls and legacy:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        return message


def _call(opened: Delta, text: str) -> dict[str, Any]:
    if opened.custom:
        return {"id": opened.call_id, "type": "custom", "custom": {"name": opened.text, "input": text}}
    return {"id": opened.call_id, "type": "function", "function": {"name": opened.text, "arguments": text}}


class ChatAnswer:
    """Collects the generations of a plain chat answer."""

    def __init__(
        self,
        choices: int,
        *,
        top_logprobs: int | None = None,
        legacy: bool = False,
        custom: frozenset[str] = frozenset(),
    ) -> None:
        self._legacy = legacy
        self._with_logprobs = top_logprobs is not None
        self._choices = [
            Choice(index, top_logprobs=top_logprobs, legacy=legacy, custom=custom) for index in range(choices)
        ]
        self._messages = [ChatMessage() for _ in range(choices)]
        self._reports: list[list[TokenReport]] = [[] for _ in range(choices)]

    def feed(self, number: int, events: Sequence[generation_pb2.GenerationEvent]) -> None:
        """Takes some events of one choice. Raises what ended it badly."""
        choice = self._choices[number]
        for event in events:
            delta = choice.read(event)
            if delta is not None:
                self._messages[number].add(delta)
        self._reports[number].extend(choice.take_reports())

    def to_json(self, head: AnswerHead) -> dict[str, Any]:
        """The response."""
        usage = Usage()
        for choice in self._choices:
            if choice.finished is not None:
                usage.add(choice.finished, with_prompt=choice.index == 0)
        choices = [
            {
                "index": index,
                "message": message.to_json(legacy=self._legacy),
                "logprobs": chat_logprobs(self._reports[index]) if self._with_logprobs else None,
                "finish_reason": message.reason,
            }
            for index, message in enumerate(self._messages)
        ]
        return {**head.to_json(KIND), "choices": choices, "usage": usage.to_json()}
