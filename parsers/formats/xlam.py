"""xLAM 2: a bare JSON array; also in a code fence or behind a marker of another family."""

from dataclasses import replace

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

_WIRE = Wire(
    head='{"name": "',
    middle='", "arguments": ',
    tail="}",
    opening="[",
    closing="]",
    separator=", ",
    trigger='[{"name": "',
)

FORMAT = Format(
    key="xlam",
    models="xLAM-2",
    openers={"[TOOL_CALLS]": "array", "<tool_call>": "array", "```json\n[": "object", "```\n[": "object"},
    bare="array",
    states={
        "array": Expect((Edge("[", "object"), Edge("{", "object", keep=True))),
        "object": JsonCall(to="next"),
        "next": Expect((Edge(",", "object"), Edge("{", "object", keep=True), Edge("]", "close")), otherwise="end"),
        "close": Expect((Edge("```", END), Edge("</tool_call>", END)), otherwise="end"),
    },
    fenced=True,
    ends=("<|im_end|>", "<|eot_id|>"),
    wire=replace(
        _WIRE,
        also=(
            *(replace(_WIRE, opening=f"{one}[", trigger=one) for one in ("[TOOL_CALLS]", "<tool_call>")),
            *(replace(_WIRE, opening=one, trigger=one) for one in ("```json\n[", "```\n[")),
        ),
    ),
    signs=('[{"name": "', '"arguments": '),
)
