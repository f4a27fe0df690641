"""Tools on offer and the choice among them, as the head takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import shorten
from gateway.openai.custom_tools import read_custom
from gateway.openai.fields import Fields, as_object, invalid, missing, wrong_type
from gateway.openai.json_body import RawJson
from gateway.openai.schemas import check_schema, read_tool_name
from tandem.v1 import generation_pb2

MAX_TOOLS: Final = 512
"""OpenAI's own limit is 128, which agents with many tool servers exceed."""


@dataclass(frozen=True)
class ToolUse:
    """The tools, the choice among them, and whether the caller speaks the legacy ``functions`` form."""

    tools: list[generation_pb2.Tool]
    choice: generation_pb2.ToolChoice | None
    parallel: bool | None
    legacy: bool

    @property
    def custom(self) -> frozenset[str]:
        """The names of the custom tools: the model sees them as functions."""
        return frozenset(tool.name for tool in self.tools if tool.HasField("custom"))


def read_tool_use(body: Fields, raw: RawJson) -> ToolUse:
    """Reads ``tools``, ``tool_choice``, ``parallel_tool_calls`` or their legacy forms.

    Tools of a type other than ``function`` and ``custom`` are left out: agents offer types of their own beside the
    plain ones. No tools at all is the same as an empty list.
    """
    functions = body.array("functions", MAX_TOOLS)
    if functions is not None or body.has("function_call"):
        if body.has("tools") or body.has("tool_choice"):
            raise invalid("functions", "'functions' and 'function_call' cannot be combined with 'tools'.")
        tools = list(_read_functions(functions or [], raw))
        choice = _read_function_call(body, tools)
        return ToolUse(tools, choice, parallel=False if tools else None, legacy=True)
    tools = list(_read_tools(body.array("tools", MAX_TOOLS) or [], raw))
    _check_kinds(tools)
    choice = _read_tool_choice(body, tools)
    return ToolUse(tools, choice, body.boolean("parallel_tool_calls"), legacy=False)


def _read_tools(values: list[Any], raw: RawJson) -> Iterator[generation_pb2.Tool]:
    slices = _elements(raw, "tools")
    for index, value in enumerate(values):
        tool = as_object(value, f"tools[{index}]")
        kind = tool.string("type")
        if kind is None:
            raise missing(tool.at("type"))
        if kind == "function":
            yield _read_function(tool.required_object("function"), slices[index].member("function"))
        elif kind == "custom":
            yield read_custom(tool.required_object("custom"))


def _check_kinds(tools: list[generation_pb2.Tool]) -> None:
    """Refuses a function and a custom tool of one name: a call to it would be neither's."""
    custom = {tool.name for tool in tools if tool.HasField("custom")}
    for tool in tools:
        if tool.name in custom and not tool.HasField("custom"):
            raise invalid("tools", f"'{tool.name}' is the name of a function and of a custom tool.")


def _read_functions(values: list[Any], raw: RawJson) -> Iterator[generation_pb2.Tool]:
    slices = _elements(raw, "functions")
    for index, value in enumerate(values):
        yield _read_function(as_object(value, f"functions[{index}]"), slices[index])


def _elements(raw: RawJson, name: str) -> list[RawJson]:
    found = raw.member(name)
    return found.elements() if found is not None and found.text().startswith("[") else []


def _read_function(function: Fields, raw: RawJson | None) -> generation_pb2.Tool:
    name = read_tool_name(function)
    schema = function.object("parameters")
    if schema is not None:
        check_schema(schema, f"function '{name}'", "invalid_function_parameters")
    parameters = raw.member("parameters") if raw is not None and schema is not None else None
    return generation_pb2.Tool(
        name=name,
        description=function.string("description") or "",
        parameters_json=parameters.text() if parameters is not None else "",
        strict=function.boolean("strict") or False,
    )


def _read_tool_choice(body: Fields, tools: list[generation_pb2.Tool]) -> generation_pb2.ToolChoice | None:
    value: Any = body.get("tool_choice")
    match value:
        case None:
            return None
        case "auto" | "none" | "required":
            return _mode(value, tools)
        case str():
            raise invalid("tool_choice", f"Invalid value: '{shorten(value, 40)}'. Choices are auto, none, required.")
        case dict():
            return _read_choice_object(Fields(value, "tool_choice"), tools)
        case _:
            raise wrong_type("tool_choice", "a string or an object", value)


def _read_choice_object(choice: Fields, tools: list[generation_pb2.Tool]) -> generation_pb2.ToolChoice:
    match choice.string("type"):
        case None:
            raise missing(choice.at("type"))
        case "function":
            return _named(choice.required_object("function"), tools)
        case "allowed_tools":
            return _allowed(choice.required_object("allowed_tools"), tools)
        case "custom":
            return _named(choice.required_object("custom"), tools)
        case other:
            raise invalid(
                choice.at("type"), f"Invalid value: '{shorten(other, 40)}'. Types are function, custom, allowed_tools."
            )


def _read_function_call(body: Fields, tools: list[generation_pb2.Tool]) -> generation_pb2.ToolChoice | None:
    value: Any = body.get("function_call")
    match value:
        case None:
            return None
        case "auto" | "none":
            return _mode(value, tools)
        case dict():
            return _named(Fields(value, "function_call"), tools)
        case _:
            raise invalid("function_call", "'function_call' must be 'auto', 'none' or an object with a name.")


def _mode(word: str, tools: list[generation_pb2.Tool]) -> generation_pb2.ToolChoice | None:
    if word == "required":
        if not tools:
            raise invalid("tool_choice", "'tool_choice' is 'required', but no tool is given.")
        return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_REQUIRED)
    if not tools:
        return None
    if word == "none":
        return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_NONE)
    return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_AUTO)


def _named(function: Fields, tools: list[generation_pb2.Tool]) -> generation_pb2.ToolChoice:
    name = _known(function, tools)
    return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_REQUIRED, names=[name])


def _allowed(allowed: Fields, tools: list[generation_pb2.Tool]) -> generation_pb2.ToolChoice:
    mode = allowed.word("mode", ("auto", "required"))
    if mode is None:
        raise missing(allowed.at("mode"))
    names = []
    for index, value in enumerate(allowed.array("tools") or ()):
        entry = as_object(value, f"{allowed.at('tools')}[{index}]")
        kind = entry.string("type")
        if kind in ("function", "custom"):
            names.append(_known(entry.required_object(kind), tools))
    if not names:
        raise invalid(allowed.at("tools"), f"'{allowed.at('tools')}' must name at least one tool.")
    wanted = generation_pb2.TOOL_CHOICE_MODE_REQUIRED if mode == "required" else generation_pb2.TOOL_CHOICE_MODE_AUTO
    return generation_pb2.ToolChoice(mode=wanted, names=names)


def _known(function: Fields, tools: list[generation_pb2.Tool]) -> str:
    name = function.required_string("name")
    if all(tool.name != name for tool in tools):
        raise invalid(function.at("name"), f"There is no tool '{shorten(name, 64)}' among those given.")
    return name
