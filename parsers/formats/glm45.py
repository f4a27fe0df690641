"""GLM 4.5 and 4.6: the name, then pairs of `<arg_key>` and `<arg_value>`, on lines of their own."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonCall, RawValue, Wire

FORMAT = Format(
    key="glm45",
    models="GLM-4.5, GLM-4.6, Ring-2.6",
    openers={"<tool_call>": "inside"},
    states={
        "inside": Expect((Edge("{", "object", keep=True), Edge("", "name"))),
        "object": JsonCall(to="close"),
        "close": Expect((Edge("</tool_call>", END),), otherwise="end"),
        "name": Capture(
            "name",
            (
                Edge("\n", "first"),
                Edge("<arg_key>", "key", do="start"),
                Edge("</tool_call>", END, do="start"),
            ),
        ),
        "first": Expect((Edge("<arg_key>", "key", do="start"), Edge("</tool_call>", END, do="start"))),
        "parameters": Expect((Edge("<arg_key>", "key"), Edge("</tool_call>", END))),
        "key": Capture("key", (Edge("</arg_key>", "between"),)),
        "between": Expect((Edge("<arg_value>", "value"), Edge("<arg_key>", "key"), Edge("</tool_call>", END))),
        "value": RawValue(
            (
                Edge("</arg_value>", "parameters"),
                Edge("<arg_key>", "parameters", keep=True),
                Edge("</tool_call>", "parameters", keep=True),
            )
        ),
    },
    ends=("<|endoftext|>", "<|user|>", "<|observation|>"),
    wire=Wire(
        head="\n<tool_call>",
        middle="\n",
        tail="</tool_call>",
        style="parameters",
        parameter=("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
        trigger="<tool_call>",
        result="<tool_response>\n{result}\n</tool_response>",
    ),
    signs=("<arg_key>", "</arg_key>\n<arg_value>"),
)
