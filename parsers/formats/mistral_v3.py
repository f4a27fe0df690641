"""Mistral 7B v0.3 to Small 3.1: a JSON array with identifiers."""

from dataclasses import replace

from parsers.formats import mistral

FORMAT = replace(
    mistral.FORMAT,
    key="mistral_v3",
    models="Mistral 7B v0.3, Nemo, Small 3.0 and 3.1, Large 2407",
    wire=replace(
        mistral.FORMAT.wire.also[0],
        result='[TOOL_RESULTS]{"content": {result}, "call_id": "{id}"}[/TOOL_RESULTS]',
    ),
    call_id="nine",
    signs=("[TOOL_CALLS]", '"call_id": "'),
)
