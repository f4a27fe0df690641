"""Errors between the head and the client, and the bounds of plain values."""

import json
from typing import Any

import pytest

from gateway.errors import from_failed, problem_of
from gateway.openai.chat_request import read_chat_request
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2


@pytest.mark.parametrize(
    ("failed", "status"),
    [
        ({"code": "context_length_exceeded", "param": "messages"}, 400),
        ({"code": "invalid_value"}, 400),
        ({"code": "unsupported_model"}, 400),
        ({"code": "model_not_found"}, 404),
        ({"code": "rate_limit_exceeded", "retry_after_seconds": 3}, 429),
        ({"code": "stage_lost", "retry_after_seconds": 2}, 503),
        ({"code": "link_lost"}, 503),
        ({"code": "bad_checkpoint"}, 500),
        ({"code": "internal_error"}, 500),
        ({"code": "news"}, 500),
        ({"code": "news", "param": "stop"}, 400),
        ({"code": "news", "retry_after_seconds": 9}, 503),
        ({}, 500),
    ],
)
def test_a_failure_has_the_status_of_its_code(failed: dict[str, Any], status: int) -> None:
    problem = problem_of(from_failed(generation_pb2.Failed(message="why", **failed)))
    assert problem.status == status
    assert (problem.message, problem.param) == ("why", failed.get("param"))
    if failed.get("code"):
        assert problem.code == failed["code"]
    if status in (429, 503):
        seconds = failed.get("retry_after_seconds")
        wanted = {"retry-after": str(seconds)} if seconds else {"x-should-retry": "false"}
        assert problem.headers == wanted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"temperature": 2.01}, "temperature"),
        ({"temperature": -0.01}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": 11}, "repetition_penalty"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": -2.1}, "presence_penalty"),
        ({"logit_bias": []}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"4294967296": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {"1": None}}, "logit_bias.1"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"stop": 1}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "x", "max_completion_tokens": 1}, "max_tokens"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        ({"modalities": "text"}, "modalities"),
        ({"modalities": [1]}, "modalities[0]"),
        ({"audio": {"voice": "x"}}, "audio"),
    ],
)
def test_values_out_of_bounds_are_named(fields: dict[str, Any], param: str) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}], **fields}
    with pytest.raises(InvalidRequestError) as caught:
        read_chat_request(json.dumps(body).encode())
    assert caught.value.param == param
