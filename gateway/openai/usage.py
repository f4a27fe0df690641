"""Token counts of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tandem.v1 import generation_pb2


@dataclass
class Usage:
    """Token counts over the generations of one request; a prompt shared by several choices counts once."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0

    def add(self, finished: generation_pb2.Finished, *, with_prompt: bool) -> None:
        """Adds one generation, with its prompt or without."""
        if with_prompt:
            self.prompt += finished.prompt_tokens
            self.cached += finished.cached_tokens
        self.completion += finished.completion_tokens
        self.reasoning += finished.reasoning_tokens

    def to_json(self) -> dict[str, Any]:
        """The ``usage`` object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }
