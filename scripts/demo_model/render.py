"""Messages to text, exactly as the chat templates write it, with a mark on what the model has to say itself."""

from __future__ import annotations

import json
from typing import Any

from .dialogues import Message

Segment = tuple[str, bool]
SPECIAL = (
    "<|pad|>", "<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>",
    "<tool_response>", "</tool_response>", "<tools>", "</tools>", "<think>", "</think>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>",
)  # fmt: skip
TAGGED_UP_TO = 5  # with more tools the Llama format leaves out its tag and writes raw JSON


def dumps(value: Any) -> str:
    """JSON as the templates' `tojson` writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def listed(tool: dict[str, Any], word: str) -> str:
    """A tool as the model is shown it: a call of it with types in place of values, then what is said about it.

    So most of a call is a copy of what stands in the prompt, and a list of tools is a third as long as its schemas.
    """
    given = tool["parameters"]
    about = "".join(f"; {k}: {p['description']}" for k, p in given["properties"].items() if "description" in p)
    said = f" {tool['description']}" if tool.get("description") else ""
    return f'{{"name": {dumps_name(tool)}, "{word}": {_shapes(given)}}}{said}{about}'


def _shapes(given: dict[str, Any]) -> str:
    required = given.get("required", ())
    parts = (f'"{k}": {_shape(p)}{"" if k in required else "?"}' for k, p in given["properties"].items())
    return "{" + ", ".join(parts) + "}"


def _shape(given: dict[str, Any]) -> str:
    if "enum" in given:
        return '"' + "|".join(given["enum"]) + '"'
    if "items" in given:
        return f"[{_shape(given['items'])}]"
    return '"string"' if given["type"] == "string" else str(given["type"])


def _header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def render_prefix(style: str, schemas: list[dict[str, Any]], system: str | None) -> str:
    """What stands before the first turn."""
    tools = "".join("\n" + listed(s["function"], "arguments" if style == "qwen" else "parameters") for s in schemas)
    gap = "\n" if system else ""
    if style == "qwen":
        if not schemas and not system:
            return ""
        return (
            "<|im_start|>system\n"
            + (system or "")
            + (f"{gap}# Tools\n<tools>{tools}\n</tools>" if schemas else "")
            + "<|im_end|>\n"
        )
    if not schemas and not system:
        return "<|begin_of_text|>"
    environment = "Environment: ipython\n" if schemas and len(schemas) <= TAGGED_UP_TO else ""
    return (
        "<|begin_of_text|>"
        + _header("system")
        + environment
        + (system or "")
        + (f"{gap}# Tools{tools}" if schemas else "")
        + "<|eot_id|>"
    )


def render_turns(style: str, tool_count: int, messages: list[Message]) -> list[Segment]:
    """The turns as (text, whether the model says it)."""
    return _qwen(messages) if style == "qwen" else _llama(messages, 0 < tool_count <= TAGGED_UP_TO)


def _qwen(messages: list[Message]) -> list[Segment]:
    out: list[Segment] = []
    for m in messages:
        if m["role"] == "user":
            out.append((f"<|im_start|>user\n{m['content']}<|im_end|>\n", False))
        elif m["role"] == "tool":
            out.append((f"<|im_start|>user\n<tool_response>\n{m['content']}\n</tool_response><|im_end|>\n", False))
        else:
            calls = [c["function"] for c in m.get("tool_calls") or []]
            body = "\n".join(
                f'<tool_call>\n{{"name": {dumps_name(c)}, "arguments": {dumps(c["arguments"])}}}\n</tool_call>'
                for c in calls
            )
            out += [
                ("<|im_start|>assistant\n", False),
                ((m["content"] or "") + body + "<|im_end|>", True),
                ("\n", False),
            ]
    return out


def _llama(messages: list[Message], tagged: bool) -> list[Segment]:
    out: list[Segment] = []
    for m in messages:
        if m["role"] == "user":
            out.append((_header("user") + m["content"] + "<|eot_id|>", False))
        elif m["role"] == "tool":
            out.append((_header("ipython") + m["content"] + "<|eot_id|>", False))
        else:
            calls = [c["function"] for c in m.get("tool_calls") or []]
            body = "; ".join(f'{{"name": {dumps_name(c)}, "parameters": {dumps(c["arguments"])}}}' for c in calls)
            if calls:
                body = "<|python_tag|>" + body + "<|eom_id|>" if tagged else body + "<|eot_id|>"
            out += [
                (_header("assistant"), False),
                ((m["content"] or "") + body + ("" if calls else "<|eot_id|>"), True),
            ]
    return out


def dumps_name(call: dict[str, Any]) -> str:
    """A call's name in quotes."""
    return json.dumps(call["name"], ensure_ascii=False)
