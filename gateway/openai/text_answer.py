"""The plain continuation of text, the best of several where asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from gateway.openai.choice import Choice
from gateway.openai.chunks import AnswerHead
from gateway.openai.completion_request import CompletionRequest
from gateway.openai.logprobs import TokenReport, completion_logprobs
from gateway.openai.usage import Usage
from tandem.v1 import generation_pb2

KIND: Final = "text_completion"


class TextAnswer:
    """Collects the generations of a plain completion and shows the likeliest of each prompt."""

    def __init__(self, request: CompletionRequest) -> None:
        count = len(request.prompts) * request.best_of
        top = request.top_logprobs or 0 if request.generate.sampling.logprobs else None
        self._request = request
        self._choices = [Choice(number, top_logprobs=top) for number in range(count)]
        self._texts: list[list[str]] = [[request.echo_of(number)] for number in range(count)]
        self._reasons: list[str | None] = [None] * count
        self._reports: list[list[TokenReport]] = [[] for _ in range(count)]

    def feed(self, number: int, events: Sequence[generation_pb2.GenerationEvent]) -> None:
        """Takes some events of one generation. Raises what ended it badly."""
        choice = self._choices[number]
        for event in events:
            delta = choice.read(event)
            if delta is None:
                continue
            if delta.kind in ("content", "reasoning"):
                self._texts[number].append(delta.text)
            elif delta.kind == "finish":
                self._reasons[number] = delta.text
        self._reports[number].extend(choice.take_reports())

    def to_json(self, head: AnswerHead) -> dict[str, Any]:
        """The response; the counts include the generations that are not shown."""
        usage = Usage()
        for choice in self._choices:
            if choice.finished is not None:
                usage.add(choice.finished, with_prompt=choice.index % self._request.best_of == 0)
        choices = [self._choice(index, number) for index, number in enumerate(self._shown())]
        return {**head.to_json(KIND), "choices": choices, "usage": usage.to_json()}

    def _shown(self) -> list[int]:
        best_of, choices = self._request.best_of, self._request.choices
        shown: list[int] = []
        for first in range(0, len(self._choices), best_of):
            numbers = range(first, first + best_of)
            shown.extend(
                sorted(numbers, key=self._mean_logprob, reverse=True)[:choices] if best_of > choices else numbers
            )
        return shown

    def _mean_logprob(self, number: int) -> float:
        reports = self._reports[number]
        return math.fsum(report.sampled.logprob for report in reports) / len(reports) if reports else -math.inf

    def _choice(self, index: int, number: int) -> dict[str, Any]:
        logprobs = None
        if self._request.top_logprobs is not None:
            logprobs = completion_logprobs(self._reports[number], len(self._texts[number][0]))
        return {
            "index": index,
            "text": "".join(self._texts[number]),
            "logprobs": logprobs,
            "finish_reason": self._reasons[number],
        }
