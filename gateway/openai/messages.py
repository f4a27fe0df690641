"""The conversation: OpenAI's messages as the head takes them."""

from __future__ import annotations

from typing import Any, Final

from gateway.errors import shorten
from gateway.openai.custom_tools import arguments_of
from gateway.openai.fields import Fields, as_object, invalid, missing, unsupported, wrong_type
from tandem.v1 import generation_pb2

MAX_MESSAGES: Final = 10_000
_ROLES: Final = {
    "system": generation_pb2.ROLE_SYSTEM,
    "developer": generation_pb2.ROLE_DEVELOPER,
    "user": generation_pb2.ROLE_USER,
    "assistant": generation_pb2.ROLE_ASSISTANT,
    "tool": generation_pb2.ROLE_TOOL,
    "function": generation_pb2.ROLE_TOOL,
}


def read_conversation(body: Fields) -> generation_pb2.Conversation:
    """The messages in order, at least one.

    Calls in the history need not be to a tool on offer and their arguments need not be JSON: both go on as they are.
    The legacy ``function`` role and ``function_call`` become tool messages and calls, joined by ids made here.
    """
    messages = body.array("messages", MAX_MESSAGES)
    if messages is None:
        raise missing("messages")
    if not messages:
        raise invalid("messages", "'messages' must hold at least one message.")
    conversation = generation_pb2.Conversation()
    names: dict[str, str] = {}
    legacy_ids: dict[str, str] = {}
    for index, value in enumerate(messages):
        fields = as_object(value, f"messages[{index}]")
        message = conversation.messages.add()
        _read_message(fields, message, index, names, legacy_ids)
    return conversation


def _read_message(
    fields: Fields,
    message: generation_pb2.ChatMessage,
    index: int,
    names: dict[str, str],
    legacy_ids: dict[str, str],
) -> None:
    """Fills one message. ``names`` maps calls to tools and ``legacy_ids`` functions to their last call's id."""
    role = fields.string("role")
    if role is None:
        raise missing(fields.at("role"))
    if role not in _ROLES:
        raise invalid(fields.at("role"), f"Invalid value: '{shorten(role, 40)}'. Roles are {', '.join(_ROLES)}.")
    message.role = _ROLES[role]
    message.name = fields.string("name") or ""
    match role:
        case "assistant":
            _add_content(fields, message)
            _add_reasoning(fields, message)
            _add_calls(fields, message)
            _add_legacy_call(fields, message, index, legacy_ids)
            names.update((call.tool_call_id, call.name) for call in message.tool_calls)
        case "tool":
            message.tool_call_id = fields.required_string("tool_call_id")
            message.name = message.name or names.get(message.tool_call_id, "")
            _add_required_content(fields, message)
        case "function":
            message.name = fields.required_string("name")
            message.tool_call_id = legacy_ids.get(message.name, _legacy_id(index))
            _add_content(fields, message)
        case _:
            _add_required_content(fields, message)


def _add_required_content(fields: Fields, message: generation_pb2.ChatMessage) -> None:
    if not fields.has("content"):
        raise missing(fields.at("content"))
    _add_content(fields, message)


def _add_content(fields: Fields, message: generation_pb2.ChatMessage) -> None:
    """Adds the parts of the content: none for null, one for a string, one for each text part."""
    content: Any = fields.get("content")
    if content is None:
        return
    if isinstance(content, str):
        message.content.add(text=content)
        return
    if not isinstance(content, list):
        raise wrong_type(fields.at("content"), "a string or an array of parts", content)
    for index, value in enumerate(content):
        part = as_object(value, f"{fields.at('content')}[{index}]")
        kind = part.string("type")
        match kind:
            case None:
                raise missing(part.at("type"))
            case "text":
                text = part.string("text")
                if text is None:
                    raise missing(part.at("text"))
                message.content.add(text=text)
            case "refusal" if message.role == generation_pb2.ROLE_ASSISTANT:
                message.content.add(text=part.string("refusal") or "")
            case _:
                raise unsupported(part.path, f"'{shorten(kind, 40)}' parts are not supported: this model reads text.")


def _add_reasoning(fields: Fields, message: generation_pb2.ChatMessage) -> None:
    for name in ("reasoning_content", "reasoning"):
        value = fields.get(name)
        if isinstance(value, str) and value:
            message.reasoning = value
            return


def _add_calls(fields: Fields, message: generation_pb2.ChatMessage) -> None:
    for index, value in enumerate(fields.array("tool_calls") or ()):
        call = as_object(value, f"{fields.at('tool_calls')}[{index}]")
        identifier = call.required_string("id")
        match call.string("type"):
            case "function" | None:
                function = call.required_object("function")
                name, arguments = function.required_string("name"), function.string("arguments")
            case "custom":
                custom = call.required_object("custom")
                name, arguments = custom.required_string("name"), arguments_of(custom.string("input") or "")
            case other:
                raise invalid(call.at("type"), f"Invalid value: '{shorten(other, 40)}'. Calls are function or custom.")
        message.tool_calls.add(tool_call_id=identifier, name=name, arguments_json=arguments or "{}")


def _add_legacy_call(
    fields: Fields, message: generation_pb2.ChatMessage, index: int, legacy_ids: dict[str, str]
) -> None:
    call = fields.object("function_call")
    if call is None or message.tool_calls:
        return
    name = call.required_string("name")
    legacy_ids[name] = _legacy_id(index)
    message.tool_calls.add(tool_call_id=legacy_ids[name], name=name, arguments_json=call.string("arguments") or "{}")


def _legacy_id(index: int) -> str:
    return f"call_message_{index}"
