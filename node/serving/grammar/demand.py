"""What a request demands of the shape of its answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Literal

from node.serving.grammar.calls import Custom, Tool
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2 as pb

_LONGEST_SCHEMA: Final = 128 * 1024
"""Characters of one schema: what it may take to compile grows with their square, and nesting with their number."""
_LONGEST_TOOLS: Final = 2 * 1024 * 1024
"""Characters of the schemas of all tools."""

_SYNTAXES: Final[dict[int, Literal["text", "regex", "lark"]]] = {
    pb.CUSTOM_SYNTAX_UNSPECIFIED: "text",
    pb.CUSTOM_SYNTAX_REGEX: "regex",
    pb.CUSTOM_SYNTAX_LARK: "lark",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """Which tools may be called, whether one must or none may be, and whether the answer must be JSON.

    ``several``: more than one call may come. ``json``: of ``schema``, or, where that is None, any object.
    """

    choice: Literal["auto", "required", "none"]
    tools: tuple[Tool, ...]
    several: bool
    json: bool
    schema: str | None

    @property
    def param(self) -> str:
        """The parameter that an impossible demand is to be blamed on."""
        return "response_format" if self.json else "tools"


def demand_of(request: pb.GenerateRequest) -> Demand | None:
    """The demand of a request; None where anything goes.

    Raises:
        InvalidRequestError: a choice that no tool fits, a schema that is none or is too large, or demands on a prompt
            that is no conversation.
    """
    mode = request.tool_choice.mode
    json_wanted = request.response_format.WhichOneof("format") is not None
    if request.WhichOneof("prompt") != "conversation":
        if json_wanted or mode == pb.TOOL_CHOICE_MODE_REQUIRED:
            raise InvalidRequestError(
                "only the answer to a conversation can be made to have a shape",
                param="response_format" if json_wanted else "tool_choice",
            )
        return None
    tools = _tools(request)
    if mode == pb.TOOL_CHOICE_MODE_REQUIRED:
        if not tools:
            raise InvalidRequestError("a call is required, but no tool is given", param="tool_choice")
        return Demand("required", tools, _several(request), json=False, schema=None)
    schema = _schema(request.response_format)
    if mode == pb.TOOL_CHOICE_MODE_NONE:
        if not (request.tools or json_wanted):
            return None
        return Demand("none", (), False, json_wanted, schema)
    if not tools and not json_wanted:
        return None
    return Demand("auto", tools, _several(request), json_wanted, schema)


def _several(request: pb.GenerateRequest) -> bool:
    """Whether more than one call may come. A choice that names one tool means one call, if nothing else is said."""
    if request.HasField("parallel_tool_calls"):
        return request.parallel_tool_calls
    return request.tool_choice.mode != pb.TOOL_CHOICE_MODE_REQUIRED or len(request.tool_choice.names) != 1


def _tools(request: pb.GenerateRequest) -> tuple[Tool, ...]:
    """The tools that may be called, in the order of the request."""
    names = set(request.tool_choice.names)
    if unknown := names - {tool.name for tool in request.tools}:
        raise InvalidRequestError(f"there is no tool {min(unknown)} among those given", param="tool_choice")
    if sum(len(tool.parameters_json) for tool in request.tools) > _LONGEST_TOOLS:
        raise InvalidRequestError(f"the tools' schemas have more than {_LONGEST_TOOLS} characters", param="tools")
    return tuple(
        _tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools) if not names or tool.name in names
    )


def _tool(tool: pb.Tool, where: str) -> Tool:
    _check_schema(tool.parameters_json, where, f"the schema of {tool.name}")
    custom = None
    if tool.HasField("custom"):
        if len(tool.custom.definition) > _LONGEST_SCHEMA:
            raise InvalidRequestError(f"the grammar of {tool.name} is too long", param=where)
        custom = Custom(_SYNTAXES[tool.custom.syntax], tool.custom.definition)
    return Tool(tool.name, tool.parameters_json, tool.strict, custom)


def _schema(wanted: pb.ResponseFormat) -> str | None:
    if wanted.WhichOneof("format") != "json_schema":
        return None
    _check_schema(wanted.json_schema, "response_format", "the schema")
    return wanted.json_schema


def _check_schema(text: str, param: str, what: str) -> None:
    if len(text) > _LONGEST_SCHEMA:
        raise InvalidRequestError(f"{what} has more than {_LONGEST_SCHEMA} characters", param=param)
    try:
        schema = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{what} is no JSON: {error}", param=param) from None
    if not isinstance(schema, dict | bool):
        raise InvalidRequestError(f"{what} is no JSON schema", param=param)
