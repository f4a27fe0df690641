"""A request to continue text: checked in full, and translated to what the head takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.openai.fields import MAX_UINT32, Fields, invalid, missing, unsupported, wrong_type
from gateway.openai.json_body import parse_object
from gateway.openai.properties import COMPLETIONS
from gateway.openai.sampling import (
    Streaming,
    generation_id,
    read_choices,
    read_max_tokens,
    read_sampling,
    read_stops,
    read_streaming,
)
from tandem.v1 import generation_pb2

DEFAULT_MAX_TOKENS: Final = 16
"""OpenAI's own; unlike chat, where an answer may run to the end of the context."""
MAX_LOGPROBS: Final = 5
MAX_BEST_OF: Final = 20

Prompt = str | list[int]


@dataclass(frozen=True)
class CompletionRequest:
    """What a completion request asks for.

    Each prompt is generated ``best_of`` times, of which ``choices`` are shown; they differ only when ``best_of`` is
    the larger. ``top_logprobs`` is None when no log probabilities are to be shown.
    """

    model: str
    prompts: list[Prompt]
    generate: generation_pb2.GenerateRequest
    choices: int
    best_of: int
    streaming: Streaming
    echo: bool
    top_logprobs: int | None

    def requests(self, completion_id: str, created: int) -> list[generation_pb2.GenerateRequest]:
        """One request to the head for each generation: all of the first prompt, then all of the second, …"""
        found = []
        for number in range(len(self.prompts) * self.best_of):
            prompt = self.prompts[number // self.best_of]
            request = generation_pb2.GenerateRequest()
            request.CopyFrom(self.generate)
            request.generation_id = generation_id(completion_id, number)
            request.choice_index = number % self.best_of
            request.created_at = created
            if isinstance(prompt, str):
                request.text = prompt
            else:
                request.token_ids.ids.extend(prompt)
            found.append(request)
        return found

    def echo_of(self, number: int) -> str:
        """What the text of a generation begins with."""
        prompt = self.prompts[number // self.best_of]
        return prompt if self.echo and isinstance(prompt, str) else ""


def read_completion_request(body: bytes, max_generations: int) -> CompletionRequest:
    """Reads a request's body; ``InvalidRequestError`` names the first thing that is wrong or not served."""
    value, _ = parse_object(body)
    fields = Fields(value)
    model = fields.required_string("model")
    COMPLETIONS.check(fields)
    prompts = _read_prompts(fields)
    streaming = read_streaming(fields)
    choices = read_choices(fields)
    best_of = _read_best_of(fields, choices, streaming)
    if len(prompts) * best_of > max_generations:
        raise invalid("prompt", f"One request may ask for up to {max_generations} generations over all prompts.")
    top_logprobs = fields.integer("logprobs", 0, MAX_LOGPROBS)
    echo = fields.boolean("echo") or False
    if echo and top_logprobs is not None:
        raise unsupported("echo", "'echo' with 'logprobs' is not supported: prompts have no log probabilities here.")
    if echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise unsupported("echo", "'echo' is not supported with prompts of token ids.")
    sampling = read_sampling(fields)
    sampling.logprobs = top_logprobs is not None or best_of > choices
    sampling.top_logprobs = top_logprobs or 0
    max_tokens = read_max_tokens(fields, "max_tokens", least=0)
    generate = generation_pb2.GenerateRequest(
        model=model,
        sampling=sampling,
        stop=read_stops(fields),
        max_tokens=DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
        ignore_eos=fields.boolean("ignore_eos") or False,
    )
    return CompletionRequest(model, prompts, generate, choices, best_of, streaming, echo, top_logprobs)


def _read_best_of(fields: Fields, choices: int, streaming: Streaming) -> int:
    best_of = fields.integer("best_of", 1, MAX_BEST_OF) or choices
    if best_of < choices:
        raise invalid("best_of", "'best_of' must not be less than 'n'.")
    if best_of > choices and streaming.wanted:
        raise invalid("best_of", "A stream cannot show the best of several: 'best_of' must equal 'n'.")
    return best_of


def _read_prompts(fields: Fields) -> list[Prompt]:
    value: Any = fields.get("prompt")
    if value is None:
        raise missing("prompt")
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise wrong_type("prompt", "a string or an array", value)
    if not value:
        raise invalid("prompt", "'prompt' must not be empty.")
    if all(type(item) is int for item in value):
        return [_tokens(value, "prompt")]
    return [_read_prompt(item, f"prompt[{index}]") for index, item in enumerate(value)]


def _read_prompt(value: object, path: str) -> Prompt:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong_type(path, "a string or an array of token ids", value)
    if not value:
        raise invalid(path, f"'{path}' must not be empty.")
    return _tokens(value, path)


def _tokens(values: list[Any], path: str) -> list[int]:
    for index, value in enumerate(values):
        if type(value) is not int:
            raise wrong_type(f"{path}[{index}]", "a token id", value)
        if not 0 <= value <= MAX_UINT32:
            raise invalid(f"{path}[{index}]", f"'{path}[{index}]' is not a token id.")
    return values
