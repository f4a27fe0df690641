"""Mistral Small 3.2: as v11, with the call's identifier of nine letters and digits."""

from dataclasses import replace

from parsers.formats import mistral

FORMAT = replace(
    mistral.FORMAT,
    key="mistral_v11_callid",
    call_id="nine",
    signs=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
    models="Mistral Small 3.2",
    wire=replace(
        mistral.FORMAT.wire,
        middle="[CALL_ID]{id}[ARGS]",
        also=(),
        result="[TOOL_RESULTS]{id}[TOOL_CONTENT]{result}[/TOOL_RESULTS]",
    ),
)
