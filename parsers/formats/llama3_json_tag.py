"""Llama 3.1 to 3.3 where every call stands behind `<|python_tag|>`."""

from dataclasses import replace

from parsers.formats import llama3_json

_TAG = "<|python_tag|>"

FORMAT = replace(
    llama3_json.FORMAT,
    key="llama3_json_tag",
    models="Llama 3.1, 3.2, 3.3 with python_tag",
    wire=replace(llama3_json.FORMAT.wire, opening=_TAG, trigger=_TAG, lead=()),
    signs=(_TAG + '{"name": "',),
)
