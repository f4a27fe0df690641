"""The streamed continuation of text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from gateway.openai.choice import Choice
from gateway.openai.chunks import DONE, AnswerHead, quote
from gateway.openai.logprobs import completion_logprobs
from gateway.openai.usage import Usage
from tandem.v1 import generation_pb2

KIND: Final = "text_completion"


class TextStream:
    """A ``StreamWriter`` for completions. ``echoes`` holds what the text of each generation begins with."""

    def __init__(
        self,
        head: AnswerHead,
        echoes: Sequence[str],
        choices_per_prompt: int,
        *,
        include_usage: bool = False,
        top_logprobs: int | None = None,
    ) -> None:
        self._head = head
        self._echoes = echoes
        self._per_prompt = choices_per_prompt
        self._include_usage = include_usage
        self._with_logprobs = top_logprobs is not None
        self._choices = [Choice(index, top_logprobs=top_logprobs) for index in range(len(echoes))]
        self._offsets = [len(echo) for echo in echoes]
        self._before, self._after = head.split(KIND, show_usage=include_usage)

    def opening(self) -> str:
        """The first chunk of each choice: the prompt if it is to be echoed, else nothing yet."""
        return "".join(self._chunk(index, echo) for index, echo in enumerate(self._echoes))

    def heartbeat(self) -> str:
        """An empty text of a choice that has not ended."""
        for choice in self._choices:
            if choice.finished is None:
                return self._chunk(choice.index, "")
        return ""

    def feed(self, number: int, events: Sequence[generation_pb2.GenerationEvent]) -> str:
        """The chunks for some events of one choice; reasoning is text here."""
        choice = self._choices[number]
        chunks = []
        for event in events:
            delta = choice.read(event)
            if delta is None:
                continue
            if delta.kind in ("content", "reasoning"):
                chunks.append(self._chunk(number, delta.text, logprobs=self._take_logprobs(number)))
            elif delta.kind == "finish":
                chunks.append(self._chunk(number, "", quote(delta.text), self._take_logprobs(number)))
        return "".join(chunks)

    def closing(self) -> str:
        """The token counts if asked for, and the end."""
        if not self._include_usage:
            return DONE
        usage = Usage()
        for choice in self._choices:
            if choice.finished is not None:
                usage.add(choice.finished, with_prompt=choice.index % self._per_prompt == 0)
        return self._head.event(KIND, "[]", usage, show_usage=True) + DONE

    def _take_logprobs(self, number: int) -> str:
        reports = self._choices[number].take_reports() if self._with_logprobs else []
        if not reports:
            return "null"
        shown = json.dumps(completion_logprobs(reports, self._offsets[number]))
        self._offsets[number] += sum(len(report.sampled.text) for report in reports)
        return shown

    def _chunk(self, index: int, text: str, reason: str = "null", logprobs: str = "null") -> str:
        choice = f'[{{"index":{index},"text":{quote(text)},"logprobs":{logprobs},"finish_reason":{reason}}}]'
        return f"{self._before}{choice}{self._after}"
