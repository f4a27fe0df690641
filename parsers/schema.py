"""What the request's schema says about the type of one parameter, and raw text turned into JSON of that type."""

import json
from collections.abc import Mapping
from typing import Any

from parsers.quoting import quote

NAMES = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})
_ALIASES = {
    "str": "string",
    "text": "string",
    "varchar": "string",
    "char": "string",
    "enum": "string",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "tuple": "array",
}
_UNTYPED = frozenset({"string", "object", "array"})
_DEPTH = 16


class ToolSchema:
    """The parameters of one tool. A schema that is no schema allows everything and raises nothing."""

    __slots__ = ("_root", "_types")

    def __init__(self, parameters_json: str | None) -> None:
        try:
            root = json.loads(parameters_json) if parameters_json else {}
        except (ValueError, RecursionError):
            root = {}
        self._root: Mapping[str, Any] = root if isinstance(root, dict) else {}
        self._types: dict[str, frozenset[str]] = {}

    def types(self, path: tuple[str, ...]) -> frozenset[str]:
        """The JSON types that the value at `path` may have; empty where the schema does not say."""
        key = "\0".join(path)
        if key not in self._types:
            nodes = [self._root]
            for step in path:
                nodes = [child for node in nodes for child in self._children(node, step)]
            found: set[str] = set()
            for node in nodes:
                self._collect(node, found, 0)
            # What is declared without a type is whatever it looks like, though a number may be an identifier.
            self._types[key] = frozenset(found) if found or not any(map(_is_open, nodes)) else _UNTYPED
        return self._types[key]

    def names(self) -> list[str]:
        """The tool's parameters in their order."""
        return [name for node in self._alternatives(self._root) for name in self._properties(node)]

    def declares(self, key: str) -> bool:
        """Whether the tool has a parameter of this name."""
        return any(key in self._properties(node) for node in self._alternatives(self._root))

    def _children(self, node: Any, step: str) -> list[Any]:
        found: list[Any] = []
        for one in self._alternatives(node):
            properties = self._properties(one)
            if step in properties:
                found.append(properties[step])
            elif isinstance(one.get("additionalProperties"), dict):
                found.append(one["additionalProperties"])
            if step == "[]" and "items" in one:
                found.append(one["items"])
        return found

    @staticmethod
    def _properties(node: Any) -> Mapping[str, Any]:
        properties = node.get("properties") if isinstance(node, dict) else None
        return properties if isinstance(properties, dict) else {}

    def _alternatives(self, node: Any) -> list[dict[str, Any]]:
        """The node and what its references and combinations lead to."""
        found: list[dict[str, Any]] = []
        waiting = [(node, 0)]
        seen: set[int] = set()
        while waiting:
            one, depth = waiting.pop(0)
            if not isinstance(one, dict) or id(one) in seen or depth > _DEPTH:
                continue
            seen.add(id(one))
            found.append(one)
            if isinstance(one.get("$ref"), str):
                waiting.append((self._resolve(one["$ref"]), depth + 1))
            for combination in ("anyOf", "oneOf", "allOf"):
                parts = one.get(combination)
                if isinstance(parts, list):
                    waiting.extend((part, depth + 1) for part in parts)
        return found

    def _resolve(self, reference: str) -> Any:
        node: Any = self._root
        if not reference.startswith("#"):
            return {}
        for step in reference[1:].strip("/").split("/"):
            if step:
                name = step.replace("~1", "/").replace("~0", "~")
                node = node.get(name) if isinstance(node, dict) else None
        return node

    def _collect(self, node: Any, found: set[str], depth: int) -> None:
        for one in self._alternatives(node):
            declared = one.get("type")
            for name in declared if isinstance(declared, list) else [declared]:
                if isinstance(name, str):
                    name = _ALIASES.get(name.lower(), name.lower())
                    if name in NAMES:
                        found.add(name)
            if declared is None:
                values = one["enum"] if isinstance(one.get("enum"), list) else []
                if "const" in one:
                    values = [*values, one["const"]]
                found.update(type_of(value) for value in values)
                if not values and isinstance(one.get("properties"), dict):
                    found.add("object")
                elif not values and "items" in one:
                    found.add("array")
            if one.get("nullable") is True:
                found.add("null")


def _is_open(node: Any) -> bool:
    """Whether the schema allows every type."""
    return node is True or (isinstance(node, dict) and not node.keys() & {"$ref", "not"})


def type_of(value: object) -> str:
    """The JSON type of a Python value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def is_json(text: str) -> bool:
    """Whether the text is one JSON value, numbers of any length included; nesting too deep to check counts as valid."""
    try:
        json.loads(text, parse_int=len, parse_float=len, parse_constant=_refuse)
    except ValueError:
        return False
    except RecursionError:
        return True
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


def scalar(text: str, types: frozenset[str]) -> str:
    """Raw text as JSON of one of `types`: null, integer, number, boolean, object, array, else a string.

    Digits are never read as a float. Without types the text is a string.
    """
    bare = text.strip()
    word = bare.lower()
    if "null" in types and (word in ("null", "none") or (not word and "string" not in types)):
        return "null"
    if types & {"integer", "number"}:
        found = number(bare)
        if found is not None and ("number" in types or _integral(found)):
            return found
    if "boolean" in types and word in ("true", "false"):
        return word
    if "boolean" in types and "string" not in types and word in ("1", "0"):
        return "true" if word == "1" else "false"
    held = "object" if bare[:1] == "{" else "array" if bare[:1] == "[" else ""
    if held in types and is_json(bare):
        return bare
    return quote(text)


def _integral(text: str) -> bool:
    """Whether the number is a whole one, as JSON Schema means it: 3.0 is."""
    whole, _, part = text.lstrip("-").partition(".")
    return whole.isdigit() and not part.strip("0")


def number(text: str) -> str | None:
    """The text as a JSON number, digits untouched, or None."""
    sign = "-" if text[:1] == "-" else ""
    body = text[1:] if text[:1] in ("-", "+") else text
    if not body.isascii() or not body[:1].isdigit():
        return None
    if body.isdigit():
        return sign + (body.lstrip("0") or "0") if body[0] == "0" else sign + body
    candidate = sign + body
    return candidate if is_json(candidate) else None
