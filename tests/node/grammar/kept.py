"""What a grammar holds a value to, as a JSON schema again."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from node.serving.grammar.leaves import Leaves
from node.serving.grammar.nodes import Anything, Array, Constants, Never, Node, Number, Object, Reference, Text, Union
from node.serving.grammar.schema import Schema


def kept(schema: Schema, leaves: Leaves, unnamed: Collection[str] = ()) -> dict[str, Any]:
    """The schema of what is left of one, with `leaves` for what the lexer refuses.

    `unnamed`: properties that the format has no way to write, required or not.
    """
    definitions = {name: _node(node, leaves) for name, node in schema.definitions.items()}
    found = {"allOf": [_node(schema.root, leaves)], "$defs": definitions}
    return _without(found, {name if name != "the schema" else "" for name in unnamed}) if unnamed else found


def _without(schema: Any, names: Collection[str]) -> Any:
    """The schema with none of the names required, nor a number of them."""
    if isinstance(schema, list):
        return [_without(one, names) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: value if key == "enum" else _without(value, names) for key, value in schema.items()}
    if isinstance(found.get("required"), list):
        found["required"] = [name for name in found["required"] if name not in names]
        found.pop("minProperties", None)
    return found


def _node(node: Node, leaves: Leaves) -> Any:
    match node:
        case Anything():
            return True
        case Never():
            return False
        case Reference(name):
            return {"$ref": f"#/$defs/{name}"}
        case Union(options):
            return {"anyOf": [_node(one, leaves) for one in options]}
        case Constants(values):
            return {"enum": [json.loads(value) for value in values]}
        case Text():
            return _text(leaves.kept(node))
        case Number():
            return _number(leaves.kept(node))
        case Array():
            rest = _node(node.rest, leaves)
            found = {"type": "array", "prefixItems": [_node(one, leaves) for one in node.prefix], "items": rest}
            return found | _counts(node.minimum, node.maximum, "Items")
        case Object():
            return _object(node, leaves)


def _counts(low: int, high: int | None, what: str) -> dict[str, int]:
    return {f"min{what}": low} | ({} if high is None else {f"max{what}": high})


def _text(node: Text) -> dict[str, Any]:
    found = [{"pattern": rf"^(?:{_python(pattern)})\Z"} for pattern in node.patterns]
    return {"type": "string", "allOf": found, **_counts(node.minimum, node.maximum, "Length")}


def _python(pattern: str) -> str:
    """As Python's `re` reads it, which knows neither `\\x{..}` nor a class in a class."""
    pattern = pattern.replace(r"[^\s\x{1c}-\x{1f}\x{feff}]", r"\S")
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda hit: re.escape(chr(int(hit[1], 16))), pattern)


def _number(node: Number) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "integer" if node.integer else "number"}
    if node.low is not None:
        found["exclusiveMinimum" if node.low_open else "minimum"] = node.low
    if node.high is not None:
        found["exclusiveMaximum" if node.high_open else "maximum"] = node.high
    if node.multiple is not None:
        found["multipleOf"] = node.multiple
    return found


def _object(node: Object, leaves: Leaves) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {member.name: _node(member.node, leaves) for member in node.members},
        "required": [member.name for member in node.members if member.required],
    }
    found |= _counts(node.minimum, node.maximum, "Properties")
    found["patternProperties"] = {}
    for other in node.others:
        names = leaves.kept(other.names)
        unlike = [re.escape(member.name) for member in node.members] + [_python(one) for one in names.unless]
        ahead = "".join(rf"(?!(?:{one})\Z)" for one in unlike)
        ahead += "".join(rf"(?=(?:{_python(one)})\Z)" for one in names.patterns)
        size = f"{{{names.minimum},{'' if names.maximum is None else names.maximum}}}"
        found["patternProperties"][rf"^{ahead}(?s:.{size})\Z"] = _node(other.node, leaves)
    return found | {"additionalProperties": False}
