"""K2 Horizon: a name with pairs, or a JSON object, in a section of calls; undeclared calls are text."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonCall, RawValue, Wire

_CLOSE = "</ifm|tool_call>"

FORMAT = Format(
    key="k2_horizon",
    models="K2-Horizon",
    openers={"<ifm|tool_calls>": "call"},
    states={
        "call": Expect((Edge("<ifm|tool_call>", "inside"), Edge("</ifm|tool_calls>", END)), otherwise="end"),
        "inside": Expect((Edge("{", "object", keep=True), Edge("", "name"))),
        "object": JsonCall(to="close"),
        "close": Expect((Edge(_CLOSE, "call"),), otherwise="end"),
        "name": Capture(
            "name", (Edge("<ifm|arg_key>", "key", do="start"), Edge(_CLOSE, "ended", do="start", keep=True))
        ),
        "ended": Expect((Edge(_CLOSE, "call", do="finish"),)),
        "parameters": Expect(
            (
                Edge("<ifm|arg_key>", "key"),
                Edge(_CLOSE, "call", do="finish"),
                Edge("</ifm|tool_calls>", END),
            )
        ),
        "key": Capture("key", (Edge("</ifm|arg_key>", "between"),)),
        "between": Expect(
            (
                Edge("<ifm|arg_value>", "value"),
                Edge("<ifm|arg_type>", "type"),
                Edge("<ifm|arg_key>", "key"),
                Edge(_CLOSE, "call", do="finish"),
            )
        ),
        "type": Capture("drop", (Edge("</ifm|arg_type>", "between"),)),
        "value": RawValue((Edge("</ifm|arg_value>", "parameters"), Edge(_CLOSE, "parameters", keep=True))),
    },
    declared_only=True,
    ends=("<|im_end|>",),
    wire=Wire(
        head="<ifm|tool_call>",
        middle="",
        tail="</ifm|tool_call>",
        opening="<ifm|tool_calls>",
        closing="</ifm|tool_calls>",
        separator="\n",
        style="parameters",
        parameter=("<ifm|arg_key>", "</ifm|arg_key><ifm|arg_value>", "</ifm|arg_value>"),
        trigger="<ifm|tool_calls>",
    ),
    signs=("<ifm|tool_calls>",),
)
