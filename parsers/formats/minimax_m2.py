"""MiniMax-M2, M2.5: invocations with named raw parameters."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Wire

FORMAT = Format(
    key="minimax_m2",
    models="MiniMax-M2, M2.5",
    openers={"<minimax:tool_call>": "invoke"},
    states={
        "invoke": Expect((Edge('<invoke name="', "name"), Edge("</minimax:tool_call>", END)), otherwise="end"),
        "name": Capture("name", (Edge('">', "parameters", do="start"),)),
        "parameters": Expect(
            (
                Edge('<parameter name="', "key"),
                Edge("</invoke>", "invoke", do="finish"),
                Edge("</minimax:tool_call>", END),
            )
        ),
        "key": Capture("key", (Edge('">', "value"),)),
        "value": RawValue(
            (
                Edge("</parameter>", "parameters"),
                Edge('<parameter name="', "parameters", keep=True),
                Edge("</invoke>", "parameters", keep=True),
            )
        ),
    },
    ends=("[e~[",),
    wire=Wire(
        head='<invoke name="',
        middle='">\n',
        tail="</invoke>\n",
        opening="<minimax:tool_call>\n",
        closing="</minimax:tool_call>",
        style="parameters",
        parameter=('<parameter name="', '">', "</parameter>\n"),
        trigger="<minimax:tool_call>",
        result="<response>{result}</response>",
    ),
    signs=("<minimax:tool_call>",),
)
