"""Tools for templates that fail on what a schema may leave out, or may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_TYPES: Final = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
_DEEPEST: Final = 16


def described(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with a description, if an empty one, on itself and on every parameter, and with lists of them and of
    the required ones."""
    return _with_parameters(
        tool, lambda one: {"description": "", "type": "any", **one} if isinstance(one, Mapping) else one
    )


def simplified(tool: Mapping[str, Any]) -> dict[str, Any]:
    """As ``described``, and each parameter is of one type: the first that its schema names.

    It is what a template can tell of the tool where it cannot tell all; what may be called with what is not decided by
    it.
    """
    return _with_parameters(tool, lambda one: _simple(one, 0))


def _with_parameters(tool: Mapping[str, Any], make: Callable[[Any], Any]) -> dict[str, Any]:
    function = dict(tool["function"])
    function.setdefault("description", "")
    given = function.get("parameters")
    parameters = dict(given) if isinstance(given, Mapping) else {"type": "object"}
    properties = parameters.get("properties")
    named = properties.items() if isinstance(properties, Mapping) else ()
    parameters["properties"] = {name: make(one) for name, one in named}
    parameters.setdefault("required", [])
    return {**tool, "function": {**function, "parameters": parameters}}


def _simple(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return {"type": "string", "description": ""}
    kind, shape = _kind(schema, depth)
    made: dict[str, Any] = {"type": kind, "description": str(schema.get("description", ""))}
    if kind == "object":
        properties = shape.get("properties")
        named = properties.items() if isinstance(properties, Mapping) else ()
        made["properties"] = {name: _simple(one, depth + 1) for name, one in named}
        required = shape.get("required")
        made["required"] = list(required) if isinstance(required, list) else []
        made["additionalProperties"] = {"type": "string"}
    elif kind == "array":
        made["items"] = _simple(shape.get("items"), depth + 1)
    elif (values := shape.get("enum")) and isinstance(values, list) and all(isinstance(one, str) for one in values):
        made["enum"] = list(values)
    return made


def _kind(schema: Mapping[str, Any], depth: int) -> tuple[str, Mapping[str, Any]]:
    """The first type that is named, null aside, and the schema that names it."""
    named = schema.get("type")
    kinds = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    if first := next((kind for kind in kinds if isinstance(kind, str) and kind != "null"), None):
        return first, schema
    for word in ("anyOf", "oneOf", "allOf"):
        options = schema.get(word)
        for option in options if isinstance(options, list) and depth <= _DEEPEST else ():
            if isinstance(option, Mapping) and option.get("type") != "null":
                return _kind(option, depth + 1)
    values = schema.get("enum") or [schema.get("const")]
    if isinstance(values, list) and type(values[0]) in _TYPES:
        return _TYPES[type(values[0])], schema
    return ("object" if "properties" in schema else "array" if "items" in schema else "string"), schema
