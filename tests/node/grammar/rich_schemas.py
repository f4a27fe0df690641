"""Schemas of tools with everything that tools use."""

from __future__ import annotations

from typing import Any

TOOLS: dict[str, dict[str, Any]] = {
    # Names that begin alike, and names that are no identifiers.
    "get": {"type": "object", "properties": {}},
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 1, "maxLength": 12},
            "unit": {"enum": ["c", "f"], "description": "degrees"},
            "days": {"type": "integer", "minimum": 1, "maximum": 10},
            "hourly": {"type": "boolean", "default": False},
            "wind": {"type": ["number", "null"], "minimum": 0, "exclusiveMaximum": 100},
        },
        "required": ["city"],
    },
    "files.edit-all": {
        "type": "object",
        "properties": {
            "path": {"type": "string", "pattern": r"^/[a-z]\w{0,8}(\.[a-z]{1,3})?$"},
            "edits": {
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": {
                    "type": "object",
                    "properties": {
                        "old": {"type": "string", "maxLength": 10},
                        "new": {"type": "string", "maxLength": 10},
                        "all": {"type": "boolean"},
                    },
                    "required": ["old", "new"],
                },
            },
            "note": {"type": ["string", "null"], "maxLength": 20},
        },
        "required": ["path", "edits"],
        "additionalProperties": False,
    },
    "plan": {
        "type": "object",
        "properties": {
            "when": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "id": {"type": "string", "format": "uuid"},
            "mail": {"type": "string", "format": "email", "maxLength": 20},
            "kind": {"const": "meeting"},
            "priority": {"type": "integer", "enum": [1, 2, 3]},
            "people": {"type": "array", "items": {"$ref": "#/$defs/person"}, "maxItems": 2},
            "limit": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 99}, {"const": "none"}]},
            "where": {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {
                            "at": {"const": "room"},
                            "number": {"type": "integer", "maximum": 9, "minimum": 0},
                        },
                        "required": ["at", "number"],
                    },
                    {
                        "type": "object",
                        "properties": {"at": {"const": "call"}, "url": {"type": "string", "maxLength": 8}},
                        "required": ["at"],
                    },
                ]
            },
        },
        "required": ["kind", "people"],
        "$defs": {
            "person": {
                "allOf": [
                    {
                        "type": "object",
                        "properties": {"name": {"type": "string", "maxLength": 6}},
                        "required": ["name"],
                    },
                    {"properties": {"age": {"type": "integer", "minimum": 0, "maximum": 130}}},
                ]
            }
        },
    },
    "tree": {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "required": ["root"],
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": -5, "maximum": 5},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1},
                },
                "required": ["value"],
                "additionalProperties": False,
            }
        },
    },
    "label": {
        "type": "object",
        "properties": {
            "labels": {
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 6},
                "maxProperties": 2,
            },
            "counts": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z]{1,4}$"},
                "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9},
                "maxProperties": 2,
            },
            "pair": {
                "type": "array",
                "prefixItems": [{"type": "string", "maxLength": 3}, {"type": "boolean"}],
                "items": False,
                "minItems": 2,
            },
            "either": {
                "anyOf": [
                    {"type": "string", "maxLength": 8},
                    {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2},
                ]
            },
            "size": {"type": ["string", "integer"], "maxLength": 5},
            "flag": {"type": ["boolean", "string"], "maxLength": 5},
        },
    },
}


def closed(schema: Any) -> Any:
    """The schema with objects that list properties closed, as the grammars read it."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    # In a combination the other parts list properties, too.
    if "properties" in found and "allOf" not in found:
        found.setdefault("unevaluatedProperties", False)
    return found
