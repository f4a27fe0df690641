"""Bodies that no request may have: each value of a good one replaced by a wrong one, and texts that are no JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

MODEL = "demo"
"""What every body names, if nothing else is asked for."""
PATHS = {"chat": "/v1/chat/completions", "text": "/v1/completions"}
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": False},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

GOOD = {
    "chat": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "u"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "t"},
        ],
        "tools": [TOOL],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "temperature": 1,
        "top_p": 1,
        "top_k": 1,
        "min_p": 0.5,
        "repetition_penalty": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "logit_bias": {"1": 1},
        "seed": 1,
        "n": 1,
        "stop": ["x"],
        "logprobs": True,
        "top_logprobs": 1,
        "max_tokens": 5,
        "max_completion_tokens": 5,
        "stream": False,
        "reasoning_effort": "low",
        "response_format": {"type": "text"},
        "chat_template_kwargs": {"a": 1},
        "enable_thinking": True,
        "modalities": ["text"],
        "ignore_eos": False,
    },
    "text": {
        "model": MODEL,
        "prompt": ["a", "b"],
        "max_tokens": 5,
        "n": 1,
        "best_of": 1,
        "echo": False,
        "logprobs": 1,
        "temperature": 1,
        "stop": "x",
        "stream": False,
        "seed": 1,
        "logit_bias": {"1": 1},
    },
}
WRONG = [{"deep": []}, [[]], "\u0000text", 10**40, -1e300, True]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a body that the gateway reads."""
    if at:
        yield at
    if at[-1:] == ("parameters",) or at[-1:] == ("chat_template_kwargs",):
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*at, key))


def replaced(body: Any, at: tuple[Any, ...], new: Any) -> Any:
    body = copy.deepcopy(body)
    inner = body
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return body


TAKES_BOOLEAN = {"parallel_tool_calls", "logprobs", "stream", "enable_thinking", "ignore_eos", "echo", "strict"}
TAKES_ANY_STRING = {"content", "text", "tool_call_id", "id", "arguments", "description", "stop", "prompt"}
TAKES_OBJECT = {"chat_template_kwargs", "parameters"}


def may_be(kind: str, at: tuple[Any, ...], wrong: Any) -> bool:
    """Whether a replacement is right after all."""
    name = next(key for key in reversed(at) if isinstance(key, str))
    match wrong:
        case bool():
            return name in TAKES_BOOLEAN and (kind, name) != ("text", "logprobs")
        case str():
            # Types of tools that nobody knows are left out, and calls in the history may be to any tool.
            return name in TAKES_ANY_STRING or at[:1] + at[2:] in {
                ("tools", "type"),
                ("messages", "tool_calls", 0, "function", "name"),
            }
        case dict():
            return name in TAKES_OBJECT
        case _:
            return False


def wrong_values() -> Iterator[tuple[str, bytes]]:
    for kind, good in GOOD.items():
        for at in places(good):
            for wrong in WRONG:
                if not may_be(kind, at, wrong):
                    yield kind, json.dumps(replaced(good, at, wrong)).encode()


def broken_texts() -> Iterator[tuple[str, bytes]]:
    for kind, good in GOOD.items():
        text = json.dumps(good).encode()
        for cut in range(0, len(text), max(1, len(text) // 20)):
            yield kind, text[:cut]
        yield kind, text + b"}"
        yield kind, text.replace(b'"demo"', b'"\\ud800"')
        yield kind, text.replace(b'"demo"', b'"\xff"')
        yield kind, text.replace(b'"seed": 1', b'"seed": NaN')
        yield kind, text.replace(b'"seed": 1', b'"seed": 1e400')
        yield kind, text.replace(b'"seed": 1', b'"seed": ' + b"1" * 5000)
        yield kind, text.replace(b'"seed": 1', b'"x": ' + b"[" * 10_000 + b"]" * 10_000)
        yield kind, text.replace(b'"seed": 1', b'"x": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
        for literal in (b"", b"null", b"[]", b"1", b'"x"', b"{}", b"\x00", b"{" * 10_000):
            yield kind, literal


def bodies(model: str = MODEL) -> list[tuple[str, bytes]]:
    """Kind and text of each; ``model`` is what those name that name one."""
    named = (json.dumps(MODEL).encode(), json.dumps(model).encode())
    return [(kind, body.replace(*named)) for kind, body in (*wrong_values(), *broken_texts())]
