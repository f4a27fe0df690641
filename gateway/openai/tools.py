"""Tools on offer and the choice among them, as the head takes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.openai.features import Features
from gateway.openai.fields import Fields, as_object, invalid, missing, unsupported, wrong_type
from gateway.openai.json_body import RawJson
from tandem.v1 import generation_pb2

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class ToolUse:
    """The tools, the choice among them, and whether the caller speaks the legacy ``functions`` form."""

    tools: list[generation_pb2.Tool]
    choice: generation_pb2.ToolChoice | None
    parallel: bool | None
    legacy: bool


def read_tool_use(body: Fields, raw: RawJson, features: Features) -> ToolUse:
    """Reads ``tools``, ``tool_choice``, ``parallel_tool_calls`` or their legacy forms.

    Tools of a type other than ``function`` are left out: agents offer types of their own beside the plain ones. No
    tools at all is the same as an empty list. Choices that need a guarantee which ``features`` lacks are refused.
    """
    functions = body.array("functions")
    if functions is not None or body.has("function_call"):
        if body.has("tools") or body.has("tool_choice"):
            raise invalid("functions", "'functions' and 'function_call' cannot be combined with 'tools'.")
        tools = list(_read_functions(functions or [], raw))
        choice = _read_function_call(body, tools, features)
        return ToolUse(tools, choice, parallel=False if tools else None, legacy=True)
    tools = list(_read_tools(body.array("tools") or [], raw))
    choice = _read_tool_choice(body, tools, features)
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


def _read_functions(values: list[Any], raw: RawJson) -> Iterator[generation_pb2.Tool]:
    slices = _elements(raw, "functions")
    for index, value in enumerate(values):
        yield _read_function(as_object(value, f"functions[{index}]"), slices[index])


def _elements(raw: RawJson, name: str) -> list[RawJson]:
    found = raw.member(name)
    return found.elements() if found is not None and found.text().startswith("[") else []


def _read_function(function: Fields, raw: RawJson | None) -> generation_pb2.Tool:
    name = function.required_string("name")
    if not _NAME.fullmatch(name):
        raise invalid(
            function.at("name"),
            f"Invalid '{function.at('name')}': up to 64 letters, digits, underscores and hyphens are allowed.",
        )
    parameters = raw.member("parameters") if raw is not None and function.object("parameters") is not None else None
    return generation_pb2.Tool(
        name=name,
        description=function.string("description") or "",
        parameters_json=parameters.text() if parameters is not None else "",
        strict=function.boolean("strict") or False,
    )


def _read_tool_choice(
    body: Fields, tools: list[generation_pb2.Tool], features: Features
) -> generation_pb2.ToolChoice | None:
    value: Any = body.get("tool_choice")
    match value:
        case None:
            return None
        case "auto" | "none" | "required":
            return _mode(value, tools, features)
        case str():
            raise invalid("tool_choice", f"Invalid value: '{value[:40]}'. Choices are auto, none, required.")
        case dict():
            return _read_choice_object(Fields(value, "tool_choice"), tools, features)
        case _:
            raise wrong_type("tool_choice", "a string or an object", value)


def _read_choice_object(
    choice: Fields, tools: list[generation_pb2.Tool], features: Features
) -> generation_pb2.ToolChoice:
    match choice.string("type"):
        case None:
            raise missing(choice.at("type"))
        case "function":
            return _named(choice.required_object("function"), tools, features)
        case "allowed_tools":
            return _allowed(choice.required_object("allowed_tools"), tools, features)
        case "custom":
            raise unsupported(choice.path, "Custom tools are not supported.", "unsupported_value")
        case other:
            raise invalid(choice.at("type"), f"Invalid value: '{other[:40]}'. Types are function, allowed_tools.")


def _read_function_call(
    body: Fields, tools: list[generation_pb2.Tool], features: Features
) -> generation_pb2.ToolChoice | None:
    value: Any = body.get("function_call")
    match value:
        case None:
            return None
        case "auto" | "none":
            return _mode(value, tools, features)
        case dict():
            return _named(Fields(value, "function_call"), tools, features)
        case _:
            raise invalid("function_call", "'function_call' must be 'auto', 'none' or an object with a name.")


def _mode(word: str, tools: list[generation_pb2.Tool], features: Features) -> generation_pb2.ToolChoice | None:
    if word == "required":
        if not tools:
            raise invalid("tool_choice", "'tool_choice' is 'required', but no tool is given.")
        _need(features.required, "tool_choice", "a tool_choice of 'required'")
        return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_REQUIRED)
    if not tools:
        return None
    if word == "none":
        return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_NONE)
    return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_AUTO)


def _named(function: Fields, tools: list[generation_pb2.Tool], features: Features) -> generation_pb2.ToolChoice:
    name = _known(function, tools)
    _need(features.named, function.path.partition(".")[0], "a choice that names one tool")
    return generation_pb2.ToolChoice(mode=generation_pb2.TOOL_CHOICE_MODE_REQUIRED, names=[name])


def _allowed(allowed: Fields, tools: list[generation_pb2.Tool], features: Features) -> generation_pb2.ToolChoice:
    mode = allowed.word("mode", ("auto", "required"))
    if mode is None:
        raise missing(allowed.at("mode"))
    names = []
    for index, value in enumerate(allowed.array("tools") or ()):
        entry = as_object(value, f"{allowed.at('tools')}[{index}]")
        if entry.string("type") == "function":
            names.append(_known(entry.required_object("function"), tools))
    if not names:
        raise invalid(allowed.at("tools"), f"'{allowed.at('tools')}' must name at least one function.")
    _need(features.allowed_tools, "tool_choice", "a tool_choice of 'allowed_tools'")
    wanted = generation_pb2.TOOL_CHOICE_MODE_REQUIRED if mode == "required" else generation_pb2.TOOL_CHOICE_MODE_AUTO
    return generation_pb2.ToolChoice(mode=wanted, names=names)


def _known(function: Fields, tools: list[generation_pb2.Tool]) -> str:
    name = function.required_string("name")
    if all(tool.name != name for tool in tools):
        raise invalid(function.at("name"), f"There is no tool '{name[:64]}' among those given.")
    return name


def _need(granted: bool, param: str, what: str) -> None:
    if not granted:
        raise unsupported(
            param,
            f"Not supported yet: {what} needs constrained decoding, which this cluster does not have. "
            "'auto' and 'none' work.",
            "unsupported_value",
        )
