"""A request's messages and tools to token ids, through the model's own chat template.

Text that came from outside never becomes a control token: where a message or a tool's description spells one, its
characters are encoded as plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2 as pb

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Noncharacters that mark, in the rendered text, what came from outside and spells a control token."""
_MARKED = re.compile(f"{_OPEN}(.*?){_CLOSE}|[{_OPEN}{_CLOSE}]", re.DOTALL)
_STRAY = str.maketrans("", "", _OPEN + _CLOSE)

_SUFFIX = 256
"""Characters that count as the end of a prompt when its last message cannot be found in it."""

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
    pb.ROLE_DEVELOPER: "system",
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: its token ids, and its end behind the last message, from which the parser learns whether the
    model's turn begins inside a thought."""

    ids: list[int]
    suffix: str


class PromptRenderer:
    """Renders requests for one served name.

    Args:
        tokenizer: mlx-lm's wrapper of the model's tokenizer.
        chat_template: jinja text in place of the tokenizer's own; empty for that.
    """

    def __init__(self, tokenizer: Any, chat_template: str = "") -> None:
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        added = sorted((str(token) for token in tokenizer.added_tokens_encoder if token.strip()), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, added))) if added else None
        self._plain = _without_added_tokens(tokenizer)

    def render(self, request: pb.GenerateRequest) -> Prompt:
        """The prompt of a request.

        Raises:
            InvalidRequestError: the template refuses the messages, or is none at all.
        """
        match request.WhichOneof("prompt"):
            case "conversation":
                return self._render_conversation(request)
            case "text":
                return Prompt(self._encode_text(request.text), "")
            case "token_ids":
                return Prompt(list(request.token_ids.ids), "")
            case _:
                raise InvalidRequestError("the request has no prompt", param="messages")

    def _encode_text(self, text: str) -> list[int]:
        """Plain text as mlx-lm encodes a prompt: with what the tokenizer puts in front, unless it is there already."""
        begins = self._tokenizer.bos_token is None or not text.startswith(self._tokenizer.bos_token)
        return list(self._tokenizer.encode(text, add_special_tokens=begins))

    def _render_conversation(self, request: pb.GenerateRequest) -> Prompt:
        if not (self._chat_template or self._tokenizer.has_chat_template):
            raise InvalidRequestError("this model has no chat template: use /v1/completions", param="messages")
        messages = [self._message(message) for message in request.conversation.messages]
        tools = [self._tool(tool) for tool in request.tools] or None
        variables = json.loads(request.template_kwargs_json) if request.template_kwargs_json else {}
        if not isinstance(variables, dict):
            raise InvalidRequestError("chat_template_kwargs must be an object", param="chat_template_kwargs")
        if self._chat_template:
            variables["chat_template"] = self._chat_template
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=True, tokenize=False, **variables
            )
        except Exception as error:  # a template is a program: whatever it raises is about what it was given
            message = f"the model's chat template refuses the conversation: {_cause(error)}"
            raise InvalidRequestError(message, param="messages") from error
        last = messages[-1]["content"] if messages else ""
        return Prompt(self._encode(str(text)), _behind(str(text), last).translate(_STRAY))

    def _message(self, message: pb.ChatMessage) -> dict[str, Any]:
        role = _ROLES.get(message.role)
        if role is None:
            raise InvalidRequestError(f"unknown role {message.role}", param="messages")
        text = "".join(part.text for part in message.content)
        # What the assistant said is markup of its own: templates split it at their markers.
        out: dict[str, Any] = {"role": role, "content": text if role == "assistant" else self._guard(text)}
        if message.tool_calls:
            out["tool_calls"] = [self._call(call) for call in message.tool_calls]
        if message.reasoning:
            out["reasoning_content"] = message.reasoning
        if role == "tool":
            out["tool_call_id"] = message.tool_call_id
        if message.name:
            out["name"] = self._guard(message.name)
        return out

    def _call(self, call: pb.ToolCall) -> dict[str, Any]:
        arguments: Any
        try:
            arguments = json.loads(call.arguments_json or "{}")
        except (ValueError, RecursionError):
            arguments = call.arguments_json
        return {
            "id": call.tool_call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        }

    def _tool(self, tool: pb.Tool) -> dict[str, Any]:
        parameters = json.loads(tool.parameters_json) if tool.parameters_json else {"type": "object", "properties": {}}
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = self._guard(tool.description)
        function["parameters"] = self._guard_tree(parameters)
        return {"type": "function", "function": function}

    def _guard(self, text: str) -> str:
        """Marks every control token that the text spells."""
        text = text.translate(_STRAY)
        return self._control.sub(lambda found: f"{_OPEN}{found[0]}{_CLOSE}", text) if self._control else text

    def _guard_tree(self, tree: Any) -> Any:
        if isinstance(tree, str):
            return self._guard(tree)
        if isinstance(tree, Mapping):
            return {key: self._guard_tree(value) for key, value in tree.items()}
        if isinstance(tree, Sequence):
            return [self._guard_tree(value) for value in tree]
        return tree

    def _encode(self, text: str) -> list[int]:
        """Encodes a rendered conversation: the template's own markers as tokens, marked ones as plain text."""
        ids: list[int] = []
        at = 0
        for found in _MARKED.finditer(text):
            ids += self._encode_part(text[at : found.start()], first=at == 0)
            if found[1]:
                ids += self._plain.encode(found[1], add_special_tokens=False).ids
            at = found.end()
        return ids + self._encode_part(text[at:], first=at == 0)

    def _encode_part(self, text: str, *, first: bool) -> list[int]:
        if not text:
            return []
        if first:
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        # SentencePiece puts a space before the first word of a text; behind a line feed it does not.
        line_feed = list(self._tokenizer.encode("\n", add_special_tokens=False))
        ids = list(self._tokenizer.encode("\n" + text, add_special_tokens=False))
        if ids[: len(line_feed)] == line_feed:
            return ids[len(line_feed) :]
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def read_template(folder: Path, name: str) -> str:
    """The jinja text of a template file inside a model's folder; empty for an empty name.

    Raises:
        InvalidRequestError: the file is not there, or is outside the folder.
    """
    if not name:
        return ""
    path = (folder / name).resolve()
    if not path.is_file() or folder.resolve() not in path.parents:
        raise InvalidRequestError(f"no chat template {name} in {folder.name}")
    return path.read_text(encoding="utf-8")


def _without_added_tokens(tokenizer: Any) -> Tokenizer:
    """The same tokenizer without its control tokens: whatever it encodes is text."""
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    data["added_tokens"] = []
    data["post_processor"] = None
    return Tokenizer.from_str(json.dumps(data))


def _behind(text: str, content: str) -> str:
    """What the template wrote behind the last message."""
    content = content.strip()
    at = text.rfind(content) if content else -1
    return text[at + len(content) :] if at >= 0 else text[-_SUFFIX:]


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if not str(error) else str(error)
