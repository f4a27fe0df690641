"""Step 3.5 and 3.7 Flash: as Qwen3.5, with results in turns of their own."""

from dataclasses import replace

from parsers.formats import qwen3_5

FORMAT = replace(
    qwen3_5.FORMAT,
    key="step3p5",
    models="Step-3.5-Flash, Step-3.7-Flash",
    signs=("<|im_start|>tool_response",),
    wire=replace(qwen3_5.FORMAT.wire, result="<tool_response>{result}</tool_response>"),
)
