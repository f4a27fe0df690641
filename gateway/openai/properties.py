"""What becomes of each property of a request: three lists for each endpoint, in which every property stands once.

The names are those of OpenAI's API description (``CreateChatCompletionRequest``, ``CreateCompletionRequest``) and
those beyond it that servers of open models share. A property in none of the lists is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.openai.fields import Fields, unsupported


@dataclass(frozen=True)
class Properties:
    """The three lists of one endpoint, and what is honoured beyond OpenAI's description."""

    honoured: frozenset[str]
    """Shapes the answer."""
    refused: dict[str, str]
    """Asks for what is not served here, with the reason: a 400 that names it. Null asks for nothing."""
    ignored: frozenset[str]
    """Accepted without effect and without a look at it."""
    extensions: frozenset[str]
    """Honoured, and not in OpenAI's description."""

    def check(self, body: Fields) -> None:
        """Raises ``InvalidRequestError`` for the first property of the body that is refused."""
        for name, reason in self.refused.items():
            if body.has(name):
                raise unsupported(name, f"Unsupported parameter: '{name}': {reason}.")


_SAMPLING: Final = frozenset(
    {"temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "stop", "logprobs", "n"}
)
_STREAMING: Final = frozenset({"stream", "stream_options"})
_EXTENSIONS: Final = frozenset({"top_k", "min_p", "repetition_penalty", "ignore_eos"})

CHAT: Final = Properties(
    honoured=_SAMPLING
    | _STREAMING
    | {
        "model",
        "messages",
        "max_completion_tokens",
        "max_tokens",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "response_format",
        "reasoning_effort",
        "modalities",
    },
    refused={"audio": "models here answer in text"},
    ignored=frozenset(
        {
            "metadata",
            "moderation",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "user",
            "verbosity",
            "web_search_options",
        }
    ),
    extensions=_EXTENSIONS | {"chat_template_kwargs", "enable_thinking", "reasoning"},
)

COMPLETIONS: Final = Properties(
    honoured=_SAMPLING | _STREAMING | {"model", "prompt", "max_tokens", "best_of", "echo"},
    refused={"suffix": "text can only be continued here, not filled in"},
    ignored=frozenset({"user"}),
    extensions=_EXTENSIONS,
)
