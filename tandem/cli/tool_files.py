"""Tools from a file, as an OpenAI client would send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2


def read_tools(name: str) -> list[generation_pb2.Tool]:
    """The tools of a JSON file: a list, or an object with ``tools``, of functions with or without OpenAI's wrapping.

    Raises ``InvalidRequestError`` that names the file and what is wrong.
    """
    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequestError(f"{name}: {error}", param="tools") from None
    entries = content.get("tools", [content]) if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise InvalidRequestError(f"{name} holds no list of tools", param="tools")
    return [_tool(entry, f"{name}: tool {index}") for index, entry in enumerate(entries)]


def _tool(entry: Any, where: str) -> generation_pb2.Tool:
    function = entry.get("function", entry) if isinstance(entry, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequestError(f"{where} has no name", param="tools")
    parameters = function.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"{where}: parameters are no JSON schema", param="tools")
    return generation_pb2.Tool(
        name=function["name"],
        description=str(function.get("description", "")),
        parameters_json=json.dumps(parameters, ensure_ascii=False),
        strict=bool(function.get("strict", False)),
    )
