"""Functionary 3.1 and Llama 3.1's custom calls: `<function=NAME>` and JSON."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, Wire

FORMAT = Format(
    key="functionary_v31",
    models="Functionary v3.1, Llama 3.1 with custom tools",
    openers={"<function=": "name"},
    states={
        "name": Capture("name", (Edge(">", "arguments"),)),
        "arguments": JsonArguments(to="close"),
        "close": Expect((Edge("</function>", END),), otherwise="end"),
    },
    thoughts=(),
    ends=("<|eom_id|>", "<|eot_id|>"),
    wire=Wire(head="<function=", middle=">", tail="</function>", trigger="<function="),
    signs=("<function=", "</function>"),
)
