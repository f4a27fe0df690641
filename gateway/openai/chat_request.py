"""A chat request: checked in full, and translated to what the head takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import shorten
from gateway.openai.fields import Fields, invalid, unsupported, wrong_type
from gateway.openai.json_body import parse_object
from gateway.openai.messages import read_conversation
from gateway.openai.properties import CHAT
from gateway.openai.response_format import read_response_format
from gateway.openai.sampling import (
    Streaming,
    generation_id,
    read_choices,
    read_max_tokens,
    read_sampling,
    read_stops,
    read_streaming,
)
from gateway.openai.tools import read_tool_use
from tandem.v1 import generation_pb2

MAX_TOP_LOGPROBS: Final = 20
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True)
class ChatRequest:
    """What a chat request asks for. ``generate`` lacks only what differs between its choices."""

    model: str
    generate: generation_pb2.GenerateRequest
    choices: int
    streaming: Streaming
    legacy_functions: bool
    custom_tools: frozenset[str] = frozenset()
    """Names of the tools whose calls are answered as custom calls."""

    @property
    def logprobs(self) -> bool:
        """Whether each token's log probability is asked for."""
        return self.generate.sampling.logprobs

    def requests(self, completion_id: str, created: int) -> list[generation_pb2.GenerateRequest]:
        """One request to the head for each choice, in the order of their indices."""
        found = []
        for index in range(self.choices):
            request = generation_pb2.GenerateRequest()
            request.CopyFrom(self.generate)
            request.generation_id = generation_id(completion_id, index)
            request.choice_index = index
            request.created_at = created
            found.append(request)
        return found


def read_chat_request(body: bytes) -> ChatRequest:
    """Reads a request's body; ``InvalidRequestError`` names the first thing that is wrong or not served."""
    value, raw = parse_object(body)
    fields = Fields(value)
    model = fields.required_string("model")
    CHAT.check(fields)
    _check_modalities(fields)
    sampling = read_sampling(fields)
    _read_logprobs(fields, sampling)
    tool_use = read_tool_use(fields, raw)
    generate = generation_pb2.GenerateRequest(
        model=model,
        conversation=read_conversation(fields),
        tools=tool_use.tools,
        tool_choice=tool_use.choice,
        sampling=sampling,
        stop=read_stops(fields),
        response_format=read_response_format(fields, raw),
        template_kwargs_json=_read_template_kwargs(fields),
        ignore_eos=fields.boolean("ignore_eos") or False,
    )
    if tool_use.parallel is not None:
        generate.parallel_tool_calls = tool_use.parallel
    max_tokens = read_max_tokens(fields, "max_completion_tokens", "max_tokens")
    if max_tokens is not None:
        generate.max_tokens = max_tokens
    return ChatRequest(model, generate, read_choices(fields), read_streaming(fields), tool_use.legacy, tool_use.custom)


def _check_modalities(fields: Fields) -> None:
    for index, value in enumerate(fields.array("modalities") or ()):
        if not isinstance(value, str):
            raise wrong_type(f"modalities[{index}]", "a string", value)
        if value != "text":
            raise unsupported("modalities", f"'{shorten(value, 40)}' is not supported: models here answer in text.")


def _read_logprobs(fields: Fields, sampling: generation_pb2.SamplingParams) -> None:
    sampling.logprobs = fields.boolean("logprobs") or False
    top = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS)
    if top is None:
        return
    if not sampling.logprobs:
        raise invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.")
    sampling.top_logprobs = top


def _read_template_kwargs(fields: Fields) -> str:
    """Variables for the chat template as a JSON object; empty without any. The plainest form wins over the others."""
    variables: dict[str, Any] = {}
    effort = fields.word("reasoning_effort", _EFFORTS)
    reasoning = fields.get("reasoning")
    if effort is None and isinstance(reasoning, dict):
        effort = Fields(reasoning, "reasoning").word("effort", _EFFORTS)
    if effort is not None:
        variables = {"enable_thinking": effort != "none", "reasoning_effort": effort}
    thinking = fields.boolean("enable_thinking")
    if thinking is not None:
        variables["enable_thinking"] = thinking
    given = fields.object("chat_template_kwargs")
    if given is not None:
        variables.update(given.value)
    return json.dumps(variables, ensure_ascii=False) if variables else ""
