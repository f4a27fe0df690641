"""Granite 3: `<|tool_call|>` (3.3 also `<tool_call>`) and a JSON array; nothing behind it."""

from dataclasses import replace

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

_WIRE = Wire(
    head='{"name": "',
    middle='", "arguments": ',
    tail="}",
    opening="<|tool_call|>[",
    closing="]",
    separator=", ",
    trigger="<|tool_call|>",
)

FORMAT = Format(
    key="granite3",
    models="Granite 3.0 to 3.3",
    openers={"<|tool_call|>": "array", "<tool_call>": "array"},
    states={
        "array": Expect((Edge("[", "object"), Edge("", END))),
        "object": JsonCall(to="next"),
        "next": Expect((Edge(",", "object"), Edge("]", "close")), otherwise="end"),
        "close": Expect((Edge("</tool_call>", END), Edge("<|tool_call|>", "array")), otherwise="end"),
    },
    dropped=("<response>", "</response>"),
    ends=("<|end_of_text|>",),
    wire=replace(_WIRE, also=(replace(_WIRE, opening="<tool_call>[", trigger="<tool_call>"),)),
    signs=("<|tool_call|>[",),
)
