"""What both endpoints say about sampling, limits and streaming, as the head takes it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from gateway.openai.fields import MAX_UINT32, Fields, invalid, wrong_type
from tandem.v1 import generation_pb2

MAX_CHOICES: Final = 16
MAX_STOPS: Final = 4
_MAX_TOKENS: Final = 2**31 - 1
_UINT64: Final = 2**64 - 1
_INT64_MIN: Final = -(2**63)


@dataclass(frozen=True)
class Streaming:
    """Whether the answer is streamed, and whether the stream ends with the token counts."""

    wanted: bool
    include_usage: bool


def generation_id(completion_id: str, number: int) -> str:
    """The id of one generation of an answer. It begins with what differs: call ids are made of its first characters."""
    return f"{number:02d}-{completion_id.partition('-')[2]}"


def read_sampling(body: Fields) -> generation_pb2.SamplingParams:
    """Sampling but for logprobs, whose form depends on the endpoint. What is absent stays unset: the model's default.

    There is always a seed: where the client gives none, a random one, so that nothing about the output is left to
    chance behind the gateway.
    """
    sampling = generation_pb2.SamplingParams()
    for name, low, high in (
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("min_p", 0.0, 1.0),
        ("frequency_penalty", -2.0, 2.0),
        ("presence_penalty", -2.0, 2.0),
    ):
        number = body.number(name, low, high)
        if number is not None:
            setattr(sampling, name, number)
    repetition = body.number("repetition_penalty", 0.0, 10.0)
    if repetition is not None:
        if repetition == 0:
            raise invalid(body.at("repetition_penalty"), "'repetition_penalty' must be more than 0.")
        sampling.repetition_penalty = repetition
    top_k = body.integer("top_k", -1, MAX_UINT32)
    if top_k is not None:
        sampling.top_k = max(top_k, 0)
    for token, bias in _read_logit_bias(body).items():
        sampling.logit_bias[token] = bias
    seed = body.integer("seed", _INT64_MIN, _UINT64)
    sampling.seed = secrets.randbits(64) if seed is None else seed & _UINT64
    return sampling


def _read_logit_bias(body: Fields) -> dict[int, float]:
    bias = body.object("logit_bias")
    found: dict[int, float] = {}
    for key in bias.value if bias is not None else ():
        if bias is None or not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= MAX_UINT32):
            raise invalid("logit_bias", "The keys of 'logit_bias' must be token ids, written as strings.")
        value = bias.number(key, -100.0, 100.0)
        if value is None:
            raise wrong_type(bias.at(key), "a number", None)
        found[int(key)] = value
    return found


def read_stops(body: Fields) -> list[str]:
    """The stop strings: none, one string, or up to four."""
    value: Any = body.get("stop")
    if value is None:
        return []
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list):
        raise wrong_type("stop", "a string or an array of strings", value)
    if len(stops) > MAX_STOPS:
        raise invalid("stop", f"'stop' may hold up to {MAX_STOPS} strings, got {len(stops)}.")
    for index, stop in enumerate(stops):
        if not isinstance(stop, str):
            raise wrong_type(f"stop[{index}]", "a string", stop)
        if not stop:
            raise invalid("stop", "A stop string must not be empty.")
    return stops


def read_choices(body: Fields) -> int:
    """How many choices: ``n``, one when absent."""
    return body.integer("n", 1, MAX_CHOICES) or 1


def read_max_tokens(body: Fields, *names: str, least: int = 1) -> int | None:
    """The limit on new tokens: the first of ``names`` that is given; all of them are checked."""
    limits = [body.integer(name, least, _MAX_TOKENS) for name in names]
    return next((limit for limit in limits if limit is not None), None)


def read_streaming(body: Fields) -> Streaming:
    """``stream`` and ``stream_options``; options without a stream are the caller's mistake."""
    wanted = body.boolean("stream") or False
    options = body.object("stream_options")
    if options is None:
        return Streaming(wanted, include_usage=False)
    if not wanted:
        raise invalid("stream_options", "'stream_options' is only allowed when 'stream' is true.")
    return Streaming(wanted, options.boolean("include_usage") or False)
