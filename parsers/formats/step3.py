"""Step 3: invocations with named raw parameters, in a section of calls."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Wire

_BEGIN, _KIND, _END = "<｜tool_call_begin｜>", "function<｜tool_sep｜>", "<｜tool_call_end｜>"

FORMAT = Format(
    key="step3",
    models="Step-3",
    openers={"<｜tool_calls_begin｜>": "section", _BEGIN: "kind"},
    states={
        "section": Expect(
            (Edge(_BEGIN, "kind"), Edge("<｜tool_calls_end｜>", END), Edge(_END, "section")), otherwise="end"
        ),
        "kind": Expect((Edge(_KIND, "invoke"), Edge("", "invoke"))),
        "invoke": Expect((Edge('<steptml:invoke name="', "name"),)),
        "name": Capture("name", (Edge('">', "parameters", do="start"),)),
        "parameters": Expect(
            (
                Edge('<steptml:parameter name="', "key"),
                Edge("</steptml:invoke>", "section", do="finish"),
                Edge(_END, "section", do="finish"),
                Edge("<｜tool_calls_end｜>", END),
            )
        ),
        "key": Capture("key", (Edge('">', "value"),)),
        "value": RawValue(
            (Edge("</steptml:parameter>", "parameters"), Edge("</steptml:invoke>", "parameters", keep=True))
        ),
    },
    ends=("<|im_end|>",),
    wire=Wire(
        head=_BEGIN + _KIND + '<steptml:invoke name="',
        middle='">',
        tail="</steptml:invoke>" + _END,
        opening="<｜tool_calls_begin｜>",
        closing="<｜tool_calls_end｜>",
        style="parameters",
        parameter=('<steptml:parameter name="', '">', "</steptml:parameter>"),
        trigger="<｜tool_calls_begin｜>",
        omitted="<｜tool_calls_begin｜>",
    ),
    signs=("<steptml:invoke",),
)
