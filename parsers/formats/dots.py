"""dots: invocations with named raw parameters, or a JSON object; calls to undeclared tools are text."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonCall, RawValue, Wire

_CLOSE = "</dots_function_call>"

FORMAT = Format(
    key="dots",
    models="dots",
    openers={"<dots_function_call>": "invoke"},
    states={
        "invoke": Expect(
            (Edge('<invoke name="', "name"), Edge("{", "object", keep=True), Edge(_CLOSE, END)), otherwise="end"
        ),
        "object": JsonCall(to="invoke"),
        "name": Capture("name", (Edge('">', "parameters", do="start"),)),
        "parameters": Expect(
            (Edge('<parameter name="', "key"), Edge("</invoke>", "invoke", do="finish"), Edge(_CLOSE, END))
        ),
        "key": Capture("key", (Edge('">', "value"),)),
        "value": RawValue((Edge("</parameter>", "parameters"), Edge("</invoke>", "parameters", keep=True))),
    },
    dropped=(_CLOSE,),
    declared_only=True,
    wire=Wire(
        head='<invoke name="',
        middle='">',
        tail="</invoke>",
        opening="<dots_function_call>",
        closing=_CLOSE,
        style="parameters",
        parameter=('<parameter name="', '">', "</parameter>"),
        trigger="<dots_function_call>",
    ),
    signs=("<dots_function_call>",),
)
