"""The shape that the answer's text must have."""

from __future__ import annotations

from gateway.openai.features import Features
from gateway.openai.fields import Fields, missing, unsupported
from gateway.openai.json_body import RawJson
from tandem.v1 import generation_pb2


def read_response_format(body: Fields, raw: RawJson, features: Features) -> generation_pb2.ResponseFormat | None:
    """Reads ``response_format``; None for plain text. What ``features`` lacks is refused."""
    wanted = body.object("response_format")
    if wanted is None:
        return None
    kind = wanted.word("type", ("text", "json_object", "json_schema"))
    if kind is None:
        raise missing(wanted.at("type"))
    if kind == "text":
        return None
    if kind == "json_object":
        _need(features.json_object, kind)
        return generation_pb2.ResponseFormat(json_object=generation_pb2.JsonObjectFormat())
    schema = wanted.required_object("json_schema")
    schema.required_string("name")
    schema.boolean("strict")
    schema.object("schema")
    _need(features.json_schema, kind)
    return generation_pb2.ResponseFormat(json_schema=_schema_text(raw))


def _schema_text(raw: RawJson) -> str:
    found: RawJson | None = raw
    for name in ("response_format", "json_schema", "schema"):
        found = found.member(name) if found is not None else None
    text = found.text() if found is not None else "null"
    return text if text != "null" else "{}"


def _need(granted: bool, kind: str) -> None:
    if not granted:
        raise unsupported(
            "response_format",
            f"Not supported yet: a response_format of '{kind}' needs constrained decoding, which this cluster does "
            "not have. 'text' works.",
            "unsupported_value",
        )
