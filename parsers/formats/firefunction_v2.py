"""FireFunction v2: as Phi-4-mini, with a space before."""

from dataclasses import replace

from parsers.formats import phi4_mini

FORMAT = replace(
    phi4_mini.FORMAT,
    key="firefunction_v2",
    models="FireFunction v2",
    openers={"functools[": "object", " functools[": "object"},
    ends=("<|eot_id|>",),
    wire=replace(phi4_mini.FORMAT.wire, opening=" functools[", also=()),
)
