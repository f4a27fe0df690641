"""Reads a JSON schema, of any draft, as `nodes`.

References are followed, combinations worked out, alternatives spread; what can never be is taken away. What cannot be
kept is dropped with a warning that names its place, and the rest holds. Objects that list properties and do not say
whether there may be others have no others. Schemas come from strangers, so depth and size are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from node.serving.grammar.containers import read_array, read_object
from node.serving.grammar.merge import COMBINED, Keywords, both, merge, plain
from node.serving.grammar.nodes import (
    ANYTHING,
    NEVER,
    NOTHING_BUT_NULL,
    TRUTH,
    Array,
    Node,
    Object,
    Reference,
    Schema,
    Union,
    constant,
    fits,
    union,
)
from node.serving.grammar.prune import prune
from node.serving.grammar.scalars import can_be_written, read_number, read_text
from node.serving.grammar.unique import exclusive
from parsers.schema import ToolSchema

_TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
# What a schema says of its values, by the type that it concerns; all else is remarks.
_STRING = ("minLength", "maxLength", "patterns", "formats")
_NUMBER = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_ARRAY = ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "unevaluatedItems")
_OBJECT = (
    *("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties"),
    *("maxProperties", "unevaluatedProperties"),
)
_DROPPED = ("not", "if", "contains", "$dynamicRef")
_DEPTH, _NODES, _ALTERNATIVES = 64, 20_000, 256


def read_schema(text: str, *, root_object: bool = True) -> Schema:
    """The schema of a JSON text. With `root_object` it describes the arguments of a call, which are an object.

    Nothing raises: a text that is no schema allows everything, with a warning; the root of one that nothing can
    satisfy is `Never`.
    """
    try:
        root = json.loads(text)
    except (ValueError, RecursionError):
        root = None
    reader = _Reader(root)
    if not isinstance(root, (dict, bool)) or not _is_shallow(root):
        reader.warn("", "it is no JSON schema, or one nested too deeply")
        root = {}
    if root_object and not (isinstance(root, dict) and root.get("type") == "object"):
        root = both(root, {"type": "object"})
    node = reader.node(root, "", 0)
    return prune(Schema(node, reader.definitions, tuple(dict.fromkeys(reader.warnings))))


def _is_shallow(value: Any) -> bool:
    """Whether nothing in the value is nested deeper than can be read."""
    level = [value]
    for _ in range(4 * _DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return True
    return False


class _Reader:
    """Reads one schema."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self.definitions: dict[str, Node] = {}
        self.warnings: list[str] = []
        # Schemas that may contain themselves: what they are, or None while they are being read.
        self._known: dict[str, Node | None] = {}
        self._names: dict[str, str] = {}
        self._count = 0

    def warn(self, where: str, what: str) -> None:
        """Say what was left out, and where."""
        self.warnings.append(f"{where or 'the schema'}: {what}")

    def node(self, schema: Any, where: str, depth: int) -> Node:
        """What a schema allows."""
        if schema is False:
            return NEVER
        if schema is True:
            return ANYTHING
        self._count += 1
        if not isinstance(schema, dict) or depth > _DEPTH or self._count > _NODES:
            self.warn(where, "the schema is too large" if isinstance(schema, dict) else "it is no schema")
            return ANYTHING
        if not any(key in schema for key in COMBINED):
            return self._plain(plain(schema), where, depth)
        key = json.dumps(schema, sort_keys=True)
        if key not in self._known:
            self._known[key] = None
            found = union([self._plain(one, where, depth) for one in self._spread(schema, where, depth, frozenset())])
            # What holds others is named: it may hold itself, or be held twice by what is held twice.
            if key in self._names or isinstance(found, (Array, Object, Union)):
                self.definitions[self._name(key)] = found
                found = Reference(self._name(key))
            self._known[key] = found
        known = self._known[key]
        return Reference(self._name(key)) if known is None else known

    def _name(self, key: str) -> str:
        return self._names.setdefault(key, f"d{len(self._names)}")

    def _spread(self, schema: Any, where: str, depth: int, followed: frozenset[str]) -> list[Keywords]:
        """The schema as alternatives without references and combinations."""
        if schema is True or schema == {}:
            return [{}]
        if schema is False:
            return []
        self._count += 1
        if not isinstance(schema, dict) or depth > _DEPTH or self._count > _NODES:
            self.warn(where, "the schema is too large" if isinstance(schema, dict) else "it is no schema")
            return [{}]
        found = [plain(schema)]
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in followed:
                # It is only what it is: nothing that ends.
                return []
            followed |= {reference}
            found = self._product(
                found, self._spread(self._resolve(reference, where), where, depth + 1, followed), where
            )
        parts = schema.get("allOf")
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            found = self._product(
                found, self._spread(part, f"{where}.allOf[{index}]".lstrip("."), depth + 1, followed), where
            )
        for key in ("anyOf", "oneOf"):
            parts = schema.get(key)
            if not isinstance(parts, list):
                continue
            options = [
                self._product(
                    found, self._spread(part, f"{where}.{key}[{index}]".lstrip("."), depth + 1, followed), where
                )
                for index, part in enumerate(parts)
            ]
            if key == "oneOf":
                self._check_one(options, where, depth)
            spread = [one for option in options for one in option]
            if len(spread) > _ALTERNATIVES:
                self.warn(where, f"{key} has too many alternatives")
            else:
                found = spread
        for name, needed in _dependencies(schema):
            # Either the property is not there, or what depends on it holds.
            absent: Keywords = {"properties": {name: False}}
            if "properties" not in schema:
                absent["additionalProperties"] = True
            there = self._product(found, [{"required": [name]}], where)
            there = self._product(there, self._spread(needed, where, depth + 1, followed), where)
            found = self._product(found, [absent], where) + there
        return found

    def _check_one(self, options: list[list[Keywords]], where: str, depth: int) -> None:
        warnings = len(self.warnings)
        nodes = [union([self._plain(one, where, depth + 1) for one in option]) for option in options]
        # What these had to say will be said again.
        del self.warnings[warnings:]
        if not exclusive(nodes, self.definitions):
            self.warn(where, "oneOf is read as anyOf")

    def _product(self, ones: list[Keywords], others: list[Keywords], where: str) -> list[Keywords]:
        if len(ones) * len(others) > _ALTERNATIVES:
            self.warn(where, "its combinations have too many alternatives")
            return ones
        merged = [merge(one, other) for one in ones for other in others]
        return [one for one in merged if one is not None]

    def _resolve(self, reference: str, where: str) -> Any:
        node = self._root
        if reference.startswith("#/") or reference == "#":
            for step in reference[2:].split("/") if reference != "#" else ():
                name = unquote(step).replace("~1", "/").replace("~0", "~")
                if isinstance(node, list) and name.isdigit():
                    node = node[int(name)] if int(name) < len(node) else None
                else:
                    node = node.get(name) if isinstance(node, dict) else None
        else:
            node = None
        if node is None:
            self.warn(where, f"$ref {reference!r} leads nowhere")
            return True
        return node

    def _plain(self, schema: Keywords, where: str, depth: int) -> Node:
        """What keywords without references and combinations allow."""
        for key in _DROPPED:
            if key in schema and schema[key] not in (False, {}):
                self.warn(where, f"{key} cannot be kept")
        types = self._types(schema, where)
        rest = union([self._typed(one, schema, where, depth) for one in types]) if types is not None else ANYTHING
        if "enum" not in schema:
            return rest
        values = schema["enum"] if isinstance(schema["enum"], list) else [schema["enum"]]
        kept = [value for value in values if fits(value, rest, self.definitions)]
        written = [value for value in kept if can_be_written(value)]
        if len(written) < len(kept):
            self.warn(where, "enum has values that no text can hold")
        return union([constant(value) for value in written])

    def _types(self, schema: Keywords, where: str) -> list[str] | None:
        """The types of the values; None for all of them without a word about any."""
        declared = schema.get("type")
        if declared is None:
            if "properties" in schema:
                types = ["object"]
            elif "items" in schema or "prefixItems" in schema:
                types = ["array"]
            elif any(key in schema for key in (*_STRING, *_NUMBER, *_ARRAY, *_OBJECT)):
                types = [one for one in _TYPES if one != "integer"]
            else:
                return None
        else:
            types = []
            for name in declared if isinstance(declared, list) else [declared]:
                known = _types_of(name if isinstance(name, str) else "")
                if not known:
                    self.warn(where, f"there is no type {name!r}")
                    return None
                types.extend(known)
        if schema.get("nullable") is True:
            types.append("null")
        if "number" in types and "integer" in types:
            types.remove("integer")
        return list(dict.fromkeys(types))

    def _typed(self, name: str, schema: Keywords, where: str, depth: int) -> Node:
        def read(inner: Any, place: str) -> Node:
            return self.node(inner, place, depth + 1)

        match name:
            case "null":
                return NOTHING_BUT_NULL
            case "boolean":
                return TRUTH
            case "string":
                return read_text(schema, where, self.warn)
            case "array":
                return read_array(schema, where, self.warn, read)
            case "object":
                return read_object(schema, where, self.warn, read)
        return read_number(schema, where, self.warn, integer=name == "integer")


@lru_cache(maxsize=256)
def _types_of(name: str) -> frozenset[str]:
    """The types that a name stands for, in the parser's eyes, too; none for one that it does not know."""
    known = ToolSchema(json.dumps({"type": name})).types(())
    return frozenset() if known == ToolSchema("{}").types(()) else known


def _dependencies(schema: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Properties, and the schemas that hold for an object with them."""
    found = []
    for key in ("dependentRequired", "dependentSchemas", "dependencies"):
        given = schema.get(key)
        for name, needed in given.items() if isinstance(given, dict) else ():
            found.append((name, {"required": needed} if isinstance(needed, list) else needed))
    return found
