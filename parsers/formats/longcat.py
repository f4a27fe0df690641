"""LongCat-Flash: Hermes' JSON or GLM's pairs, in markers of their own."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonCall, RawValue, Thought, Wire

FORMAT = Format(
    key="longcat",
    models="LongCat-Flash, LongCat-Flash-Thinking",
    openers={"<longcat_tool_call>": "inside"},
    states={
        "inside": Expect((Edge("{", "object", keep=True), Edge("", "name"))),
        "object": JsonCall(to="close"),
        "close": Expect((Edge("</longcat_tool_call>", END),), otherwise="end"),
        "name": Capture(
            "name",
            (
                Edge("\n", "first"),
                Edge("<longcat_arg_key>", "key", do="start"),
                Edge("</longcat_tool_call>", END, do="start"),
            ),
        ),
        "first": Expect((Edge("<longcat_arg_key>", "key", do="start"), Edge("</longcat_tool_call>", END, do="start"))),
        "parameters": Expect((Edge("<longcat_arg_key>", "key"), Edge("</longcat_tool_call>", END))),
        "key": Capture("key", (Edge("</longcat_arg_key>", "between"),)),
        "between": Expect(
            (Edge("<longcat_arg_value>", "value"), Edge("<longcat_arg_key>", "key"), Edge("</longcat_tool_call>", END))
        ),
        "value": RawValue(
            (
                Edge("</longcat_arg_value>", "parameters"),
                Edge("<longcat_arg_key>", "parameters", keep=True),
                Edge("</longcat_tool_call>", "parameters", keep=True),
            )
        ),
    },
    thoughts=(Thought("<longcat_think>", "</longcat_think>"),),
    ends=("</longcat_s>",),
    wire=Wire(
        head='<longcat_tool_call>\n{"name": "',
        middle='", "arguments": ',
        tail="}\n</longcat_tool_call>",
        separator="\n",
        trigger="<longcat_tool_call>",
    ),
    signs=("<longcat_tool_call>",),
)
