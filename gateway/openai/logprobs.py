"""Log probabilities as OpenAI's two endpoints show them.

The head reports the sampled token among the alternatives, also where it is not one of the best: its text is found
there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tandem.v1 import generation_pb2

_FLOOR: Final = -9999.0
"""Stands for minus infinity, which JSON lacks."""


@dataclass(frozen=True)
class Alternative:
    """A token that could have come."""

    token: bytes
    logprob: float

    @property
    def text(self) -> str:
        """Its text; bytes that are part of a character become U+FFFD."""
        return self.token.decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """Token, log probability and bytes."""
        return {"token": self.text, "logprob": self.logprob, "bytes": list(self.token)}


@dataclass(frozen=True)
class TokenReport:
    """A sampled token and the best alternatives, best first."""

    sampled: Alternative
    best: list[Alternative]


def read_reports(event: generation_pb2.GenerationEvent, top: int) -> list[TokenReport]:
    """One report for each token of an event, with ``top`` alternatives each."""
    return [_report(token, logprobs, top) for token, logprobs in zip(event.token_ids, event.logprobs, strict=False)]


def chat_logprobs(reports: Sequence[TokenReport]) -> dict[str, Any]:
    """The ``logprobs`` object of a chat choice or chunk."""
    content = [
        {**report.sampled.to_json(), "top_logprobs": [item.to_json() for item in report.best]} for report in reports
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(reports: Sequence[TokenReport], offset: int) -> dict[str, Any]:
    """The ``logprobs`` object of a text choice or chunk; ``offset`` is where its text begins, in characters."""
    offsets = []
    for report in reports:
        offsets.append(offset)
        offset += len(report.sampled.text)
    return {
        "tokens": [report.sampled.text for report in reports],
        "token_logprobs": [report.sampled.logprob for report in reports],
        "top_logprobs": [{item.text: item.logprob for item in (*report.best, report.sampled)} for report in reports],
        "text_offset": offsets,
    }


def _report(token_id: int, logprobs: generation_pb2.TokenLogprobs, top: int) -> TokenReport:
    ranked = sorted(logprobs.top, key=lambda item: item.logprob, reverse=True)
    text = next((item.token for item in ranked if item.token_id == token_id), f"token_id:{token_id}".encode())
    best = [Alternative(item.token, _finite(item.logprob)) for item in ranked[:top]]
    return TokenReport(Alternative(text, _finite(logprobs.logprob)), best)


def _finite(logprob: float) -> float:
    return _FLOOR if math.isnan(logprob) else max(logprob, _FLOOR)
