"""A request's messages and tools to token ids, through the model's own chat template."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from node.serving import history, splicing
from node.serving.detection import Detection, Probe, Quirks, detect, probe
from node.serving.detection.plain_tools import described, simplified
from node.serving.outside_text import OutsideText, unescaped, without_marks
from node.serving.recall import Listener, Recall, Turn
from node.serving.templates import ChatTemplate
from tandem.errors import ContextOverflowError, InvalidRequestError
from tandem.v1 import generation_pb2 as pb

_NO_VARIABLES = frozenset(
    {
        *("add_generation_prompt", "chat_template", "continue_final_message", "conversation", "messages"),
        *("padding", "return_dict", "return_tensors", "tokenize", "tokenizer_kwargs", "tools", "truncation"),
    }
)
"""What renders the template, and is none of its variables."""

_SUFFIX = 256
"""Characters that count as the end of a prompt when its last message cannot be found in it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: its token ids, and its end behind the last message, from which the parser learns whether the
    model's turn begins inside a thought. ``opened``: the same as it was rendered; None where that message's end is not
    known."""

    ids: list[int]
    suffix: str
    opened: str | None = None


class PromptRenderer:
    """Renders requests for one served name.

    Args:
        tokenizer: mlx-lm's wrapper of the model's tokenizer.
        chat_template: jinja text in place of the tokenizer's own; empty for that.
        tool_format: the key of the format in use; empty for the one that is recognised.
        model_type: of the checkpoint's configuration, where nothing else says which format it speaks.
        context_tokens: the model's limit; a prompt that recalled turns would take beyond it does without them. 0: none.

    Raises:
        InvalidRequestError: there is no such format.
    """

    def __init__(
        self,
        tokenizer: Any,
        chat_template: str = "",
        tool_format: str = "",
        model_type: str = "",
        context_tokens: int = 0,
    ) -> None:
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        added = sorted((str(token) for token in tokenizer.added_tokens_encoder if token.strip()), key=len, reverse=True)
        # The bound counts bytes, the vocabulary characters: hence the 4 where it is used.
        self._longest_token = max(map(len, tokenizer.get_vocab()), default=1)
        self._outside = OutsideText(tokenizer, added)
        self._guard = self._outside.guard
        self._variables = _variables(tokenizer)
        self._templates = _templates(tokenizer, chat_template)
        self.has_template = bool(chat_template or tokenizer.has_chat_template)
        # Of a model with two templates, the one for tools says more.
        self.source = next(
            (self._templates[key].source for key in ("tool_use", "default") if key in self._templates), ""
        )
        self.probed = probe(self.apply) if self.has_template else Probe()
        end_of_turn = [str(tokenizer.decode([token])) for token in sorted(tokenizer.eos_token_ids)]
        configured = getattr(tokenizer, "response_template", None)
        self.detection: Detection = detect(
            self.probed,
            self.source,
            setting=tool_format,
            response_template=configured if isinstance(configured, Mapping) else None,
            vocabulary=added,
            end_of_turn=end_of_turn,
            model_type=model_type,
        )
        self.recall = Recall()
        self._ends = tuple({*self.detection.format.ends, *end_of_turn} - {""})

    def render(self, request: pb.GenerateRequest) -> Prompt:
        """The prompt of a request.

        Raises:
            InvalidRequestError: the template refuses the messages, or is none at all; a token that does not exist.
            ContextOverflowError: a text of which even the longest tokens would be too many.
        """
        self._check_size(request)
        match request.WhichOneof("prompt"):
            case "conversation":
                return self._render_conversation(request)
            case "text":
                return Prompt(self._encode_text(request.text), "")
            case "token_ids":
                return Prompt(self._checked(request.token_ids.ids), "")
            case _:
                raise InvalidRequestError("the request has no prompt", param="messages")

    def _checked(self, ids: Sequence[int]) -> list[int]:
        """Ids as they are. One beyond the vocabulary would read memory behind the embedding's rows."""
        unknown = next((token for token in ids if token >= len(self._tokenizer)), None)
        if unknown is not None:
            raise InvalidRequestError(f"there is no token {unknown} in this model", param="prompt")
        return list(ids)

    def _check_size(self, request: pb.GenerateRequest) -> None:
        """Refuses at once what would take minutes to be counted, while others wait for their prompts."""
        least = request.ByteSize() // (4 * self._longest_token)
        if self._context_tokens and least > self._context_tokens:
            raise ContextOverflowError(
                f"This model's maximum context length is {self._context_tokens} tokens. However, the request has more "
                f"than {least} tokens. Please reduce its length.",
                param="messages" if request.HasField("conversation") else "prompt",
            )

    def listen(self, request: pb.GenerateRequest, prompt: Prompt, stop_ids: Collection[int]) -> Listener:
        """What follows the events of the request's generation, so that its turn can be recalled."""
        return Listener(self.recall, request, prompt.opened, stop_ids)

    def _encode_text(self, text: str) -> list[int]:
        """Plain text as mlx-lm encodes a prompt: with what the tokenizer puts in front, unless it is there already."""
        begins = self._tokenizer.bos_token is None or not text.startswith(self._tokenizer.bos_token)
        return list(self._tokenizer.encode(text, add_special_tokens=begins))

    def _render_conversation(self, request: pb.GenerateRequest) -> Prompt:
        if not self.has_template:
            raise InvalidRequestError("this model has no chat template: use /v1/completions", param="messages")
        variables = self._kwargs(request.template_kwargs_json)
        tools = [self._tool(tool) for tool in request.tools]
        turns = self.recall.find(request.conversation.messages)
        prompt = self._render_with(request, tools, variables, turns)
        if turns and self._context_tokens and len(prompt.ids) + request.max_tokens >= self._context_tokens:
            return self._render_with(request, tools, variables, {})
        return prompt

    def _render_with(
        self,
        request: pb.GenerateRequest,
        tools: list[dict[str, Any]],
        variables: Mapping[str, Any],
        turns: dict[int, Turn],
    ) -> Prompt:
        try:
            now = datetime.fromtimestamp(request.created_at or time.time(), UTC)
        except (ValueError, OverflowError, OSError):
            raise InvalidRequestError(f"{request.created_at} is no time", param="created_at") from None
        spec = self.detection.format
        conversation = history.entries(request.conversation.messages, spec, self._guard)
        refused: Exception | None = None
        for quirks in history.ways(self.probed.quirks):
            arranged = history.arrange(conversation, spec, quirks, self._guard)
            splicing.mark(arranged, turns)
            messages = [history.as_message(entry, quirks, self._guard) for entry in arranged]
            try:
                text = self.apply(messages, self._wanted(tools, quirks), True, variables, now)
            except Exception as error:  # noqa: BLE001 - a template is a program: this is about what it was given
                refused = refused or error
                continue
            text = unescaped(text, self.source)
            text = splicing.splice(text, arranged, turns, spec, self._ends, self._decode)
            suffix, exact = _behind(text, splicing.without_edges(arranged[-1].text) if arranged else "")
            return Prompt(self._outside.encode(text, turns), without_marks(suffix), suffix if exact else None)
        message = f"the model's chat template refuses the conversation: {_cause(refused)}"
        raise InvalidRequestError(message, param="messages") from refused

    def apply(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        opened: bool = True,
        variables: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> str:
        """What the template makes of plain data, without any repair. Raises whatever a template raises."""
        template = self._templates.get("tool_use" if tools and "tool_use" in self._templates else "default")
        if template is None:
            # A tokenizer with a renderer of its own, in Python.
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tools=tools, add_generation_prompt=opened, tokenize=False, **(variables or {})
                )
            )
        now = now or datetime.now(UTC)
        given = {**self._variables, **(variables or {})}
        if "functions" in template.variables and "functions" not in given:
            given["functions"] = json.dumps([tool["function"] for tool in tools or ()], ensure_ascii=False, indent=4)
            given.setdefault("datetime", now.strftime("%b %d %Y %H:%M:%S GMT"))
        return template.render(messages, tools, given, now=now, generation_prompt=opened)

    def _wanted(self, tools: list[dict[str, Any]], quirks: Quirks) -> list[dict[str, Any]] | None:
        if quirks.simplified or quirks.described:
            tools = [simplified(tool) if quirks.simplified else described(tool) for tool in tools]
        return tools or ([] if quirks.empty_tools else None)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _tool(self, tool: pb.Tool) -> dict[str, Any]:
        try:
            parameters = json.loads(tool.parameters_json or '{"type": "object", "properties": {}}')
            parameters = history.guarded(parameters, self._guard)
        except (ValueError, RecursionError):
            raise InvalidRequestError(f"the parameters of {tool.name} are no JSON", param="tools") from None
        function: dict[str, Any] = {"name": self._guard(tool.name)}
        if tool.description:
            function["description"] = self._guard(tool.description)
        function["parameters"] = parameters
        return {"type": "function", "function": function}

    def _kwargs(self, text: str) -> dict[str, Any]:
        try:
            variables = history.guarded(json.loads(text or "{}"), self._guard)
        except (ValueError, RecursionError):
            variables = None
        if not isinstance(variables, dict):
            raise InvalidRequestError("chat_template_kwargs must be an object", param="chat_template_kwargs")
        for name in variables.keys() & _NO_VARIABLES:
            raise InvalidRequestError(f"{name} is not for chat_template_kwargs to set", param="chat_template_kwargs")
        return variables


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


def _variables(tokenizer: Any) -> dict[str, Any]:
    """What every template of a tokenizer sees, as transformers and mlx-lm have it."""
    return {**tokenizer.special_tokens_map, "enable_thinking": tokenizer.has_thinking}


def _templates(tokenizer: Any, chat_template: str) -> dict[str, ChatTemplate]:
    """The templates by their names, "default" among them; none where the tokenizer renders with code of its own."""
    own = tokenizer.chat_template
    code = getattr(type(getattr(tokenizer, "_tokenizer", tokenizer)), "apply_chat_template", None)
    python = getattr(tokenizer, "_chat_template", None) is not None or (
        code is not PreTrainedTokenizerBase.apply_chat_template
    )
    if not chat_template and (python or not own):
        return {}
    named = {"default": chat_template} if chat_template else own if isinstance(own, Mapping) else {"default": own}
    return {str(name): ChatTemplate(str(source)) for name, source in named.items()}


def _behind(text: str, content: str) -> tuple[str, bool]:
    """What the template wrote behind the last message, and whether that message was found; a template may write it as
    a JSON text."""
    content = content.strip()
    for written in (content, json.dumps(content, ensure_ascii=False)[1:-1], json.dumps(content)[1:-1]):
        at = text.rfind(written) if written else -1
        if at >= 0:
            return text[at + len(written) :], True
    return text[-_SUFFIX:], False


def _cause(error: BaseException | None) -> str:
    return str(error) or type(error).__name__
