"""Mistral since Small 3.2 and Devstral: NAME and `[ARGS]`, again and again."""

from dataclasses import replace

from parsers.formats import mistral

FORMAT = replace(
    mistral.FORMAT,
    key="mistral_v11",
    wire=replace(mistral.FORMAT.wire, also=()),
    signs=("[TOOL_CALLS]", "[ARGS]"),
    models="Devstral, Magistral, Ministral 3, Large 3",
)
