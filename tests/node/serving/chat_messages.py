"""Messages of a conversation, as the gateway sends them to a head."""

from __future__ import annotations

from typing import Any

from tandem.v1 import generation_pb2 as pb

ROLES = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
}


def message(role: str, text: str = "", *calls: tuple[str, str, str], **fields: Any) -> pb.ChatMessage:
    """`calls` are of id, name and arguments."""
    made = pb.ChatMessage(role=ROLES[role], content=[pb.ContentPart(text=text)] if text else [], **fields)
    made.tool_calls.extend(pb.ToolCall(tool_call_id=i, name=name, arguments_json=a) for i, name, a in calls)
    return made
