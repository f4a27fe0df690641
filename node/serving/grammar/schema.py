"""Reads a JSON schema, of any draft, as `nodes`.

References are followed, combinations worked out, alternatives spread; what can never be is taken away. What cannot be
said as it is, is read more narrowly where that leaves something: all that is allowed fits. Else it is dropped with a
warning that names its place, and the rest holds. Objects that list properties and do not say whether there may be
others have no others. Schemas come from strangers, so depth and size are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from node.serving.grammar.containers import read_array, read_object
from node.serving.grammar.merge import COMBINED, Keywords, both, merge, plain
from node.serving.grammar.negation import negations
from node.serving.grammar.nodes import (
    ANYTHING,
    NEVER,
    NOTHING_BUT_NULL,
    TRUTH,
    Array,
    Never,
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
_DROPPED = ("$dynamicRef",)
_DEPTH, _NODES, _ALTERNATIVES = 64, 20_000, 256
# Options of which each is read without all others.
_ONE_OF = 16


def read_schema(text: str, *, root_object: bool = True) -> Schema:
    """The schema of a JSON text. With `root_object` it describes the arguments of a call, which are an object.

    Nothing raises: a text that is no schema allows everything, with a warning; the root of one that nothing can
    satisfy is `Never`.
    """
    try:
        root = json.loads(text)
    except (ValueError, RecursionError):
        root = None
    warnings: list[str] = []
    if not isinstance(root, (dict, bool)) or not _is_shallow(root):
        warnings.append("the schema: it is no JSON schema, or one nested too deeply")
        root = {}
    start = root
    if root_object and not (isinstance(root, dict) and root.get("type") == "object"):
        start = both(root, {"type": "object"})
    for narrow in (True, False):
        reader = _Reader(root, narrow)
        node = reader.node(start, "", 0)
        found = prune(Schema(node, reader.definitions, tuple(dict.fromkeys([*warnings, *reader.warnings]))))
        if not isinstance(found.root, Never):
            break
    return found


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
    """Reads one schema; with `narrow` more narrowly where it cannot be read exactly."""

    def __init__(self, root: Any, narrow: bool) -> None:
        self._root = root
        self._narrow = narrow
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
                options = self._one_of(options, parts, where, depth, followed)
            spread = [one for option in options for one in option]
            if len(spread) > _ALTERNATIVES:
                self.warn(where, f"{key} has too many alternatives")
            else:
                found = spread
        if schema.get("not", False) is not False:
            other = self._other_side(schema["not"], found, where, depth, followed)
            found = self._narrowed(found, [self._product(found, other, where)], "not", where, depth)
        if "if" in schema and ("then" in schema or "else" in schema):
            found = self._conditional(schema, found, where, depth, followed)
        for name, needed in _dependencies(schema):
            # Either the property is not there, or what depends on it holds.
            absent: Keywords = {"properties": {name: False}}
            if "properties" not in schema:
                absent["additionalProperties"] = True
            there = self._product(found, [{"required": [name]}], where)
            there = self._product(there, self._spread(needed, where, depth + 1, followed), where)
            found = self._product(found, [absent], where) + there
        return found

    def _other_side(
        self, schema: Any, found: list[Keywords], where: str, depth: int, followed: frozenset[str], deep: bool = True
    ) -> list[Keywords]:
        """Alternatives that do not fit a schema."""
        closed = any("properties" in one for one in found)
        others = negations(
            schema, _types_of, lambda reference: self._resolve(reference, where), closed=closed, deep=deep
        )
        return [way for one in others for way in self._spread(one, where, depth + 1, followed)]

    def _narrowed(
        self, found: list[Keywords], ways: list[list[Keywords]], keyword: str, where: str, depth: int
    ) -> list[Keywords]:
        """The ways that a keyword leaves if each of them leaves something; else the keyword is dropped."""
        if self._narrow and all(self._is_possible(way, where, depth) for way in ways):
            return [one for way in ways for one in way]
        self.warn(where, f"{keyword} cannot be kept")
        return found

    def _conditional(
        self, schema: Keywords, found: list[Keywords], where: str, depth: int, followed: frozenset[str]
    ) -> list[Keywords]:
        """The alternatives with what holds of them where the condition does, and where it does not."""

        def spread(key: str) -> list[Keywords]:
            return self._spread(schema.get(key, True), f"{where}.{key}".lstrip("."), depth + 1, followed)

        fitting = self._product(found, self._product(spread("if"), spread("then"), where), where)
        others = self._product(found, self._other_side(schema["if"], found, where, depth, followed), where)
        if others or schema["if"] in (True, {}):
            return self._narrowed(found, [fitting + self._product(others, spread("else"), where)], "if", where, depth)
        self.warn(where, "if cannot be kept")
        return found

    def _is_possible(self, options: list[Keywords], where: str, depth: int) -> bool:
        return not isinstance(self._quietly(options, where, depth), Never)

    def _quietly(self, options: list[Keywords], where: str, depth: int) -> Node:
        """What the options allow, without the warnings: what these have to say will be said again."""
        warnings = len(self.warnings)
        found = union([self._plain(one, where, depth + 1) for one in options])
        del self.warnings[warnings:]
        return found

    def _one_of(
        self, options: list[list[Keywords]], parts: list[Any], where: str, depth: int, followed: frozenset[str]
    ) -> list[list[Keywords]]:
        """The options without what fits two of them, if something is left of each."""
        if exclusive([self._quietly(option, where, depth) for option in options], self.definitions):
            return options
        if self._narrow and len(options) <= _ONE_OF:
            alone = []
            for index, option in enumerate(options):
                for position, part in enumerate(parts):
                    if position != index and option:
                        others = self._other_side(part, option, where, depth, followed, deep=False)
                        option = self._product(option, others, where)
                alone.append(option)
            if all(self._is_possible(option, where, depth) for option in alone):
                return alone
        self.warn(where, "oneOf is read as anyOf")
        return options

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
                return read_array(schema, where, self.warn, read, narrow=self._narrow)
            case "object":
                return read_object(schema, where, self.warn, read, narrow=self._narrow)
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
