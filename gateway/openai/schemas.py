"""What OpenAI's API asks of names and schemas, whatever they are for."""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.openai.fields import Fields, invalid
from tandem.errors import InvalidRequestError

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_tool_name(tool: Fields) -> str:
    """The ``name`` of a tool. Dots are not OpenAI's, but agents put them between a server's name and a tool's."""
    name = tool.required_string("name")
    if not _NAME.fullmatch(name):
        raise invalid(
            tool.at("name"),
            f"Invalid '{tool.at('name')}': up to 64 letters, digits, underscores, dots and hyphens are allowed.",
        )
    return name


def check_schema(schema: Fields, of: str, code: str) -> None:
    """Refuses a schema whose values are said to be something else than objects, in the words that OpenAI has for it."""
    kind: Any = schema.get("type")
    if kind is not None and kind != "object":
        shown = kind if isinstance(kind, str) else repr(kind)
        raise InvalidRequestError(
            f"Invalid schema for {of}: schema must be a JSON Schema of 'type: \"object\"', "
            f"got 'type: \"{shown[:40]}\"'.",
            param=schema.path,
            code=code,
        )
