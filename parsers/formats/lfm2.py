"""LFM 2: a list of Python calls between markers, or of JSON objects if the system prompt asks for them."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonCall, PythonArguments, Wire

_CLOSE = "<|tool_call_end|>"

FORMAT = Format(
    key="lfm2",
    models="LFM2, LFM2.5",
    openers={"<|tool_call_start|>": "list"},
    states={
        "list": Expect(
            (Edge(_CLOSE, END), Edge("[", "first"), Edge("{", "object", keep=True), Edge("", "name")), space=True
        ),
        "first": Expect((Edge("{", "object", keep=True), Edge("", "name"))),
        "object": JsonCall(to="next"),
        "name": Capture("name", (Edge("(", "arguments", do="start"),), identifier=True),
        "arguments": PythonArguments(to="next"),
        "next": Expect((Edge(",", "first"), Edge("]", "close"), Edge(_CLOSE, END)), otherwise="end"),
        "close": Expect((Edge(_CLOSE, END),), otherwise="end"),
    },
    ends=("<|im_end|>",),
    wire=Wire(
        head="",
        middle="(",
        tail=")",
        opening="<|tool_call_start|>[",
        closing="]<|tool_call_end|>",
        separator=", ",
        style="python",
        trigger="<|tool_call_start|>",
        result="<|tool_response_start|>{result}<|tool_response_end|>",
    ),
    signs=("<|tool_call_start|>",),
)
