"""The shape that the answer's text must have."""

from __future__ import annotations

from gateway.openai.fields import Fields, missing
from gateway.openai.json_body import RawJson
from gateway.openai.schemas import check_schema
from tandem.v1 import generation_pb2


def read_response_format(body: Fields, raw: RawJson) -> generation_pb2.ResponseFormat | None:
    """Reads ``response_format``; None for plain text."""
    wanted = body.object("response_format")
    if wanted is None:
        return None
    kind = wanted.word("type", ("text", "json_object", "json_schema"))
    if kind is None:
        raise missing(wanted.at("type"))
    if kind == "text":
        return None
    if kind == "json_object":
        return generation_pb2.ResponseFormat(json_object=generation_pb2.JsonObjectFormat())
    described = wanted.required_object("json_schema")
    name = described.required_string("name")
    described.boolean("strict")
    schema = described.object("schema")
    if schema is not None:
        check_schema(schema, f"response_format '{name[:64]}'", "invalid_value")
    return generation_pb2.ResponseFormat(json_schema=_schema_text(raw))


def _schema_text(raw: RawJson) -> str:
    found: RawJson | None = raw
    for name in ("response_format", "json_schema", "schema"):
        found = found.member(name) if found is not None else None
    text = found.text() if found is not None else "null"
    return text if text != "null" else "{}"
