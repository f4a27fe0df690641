"""Qwen3-Coder: `<function=NAME>` with one raw `<parameter=KEY>` each, on lines of their own."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Wire

FORMAT = Format(
    key="qwen3_coder",
    models="Qwen3-Coder, Qwen3-Next-Coder",
    # The outer marker is often left out.
    openers={"<tool_call>": "function", "<function=": "name"},
    states={
        "function": Expect((Edge("<function=", "name"), Edge("</tool_call>", END)), otherwise="end"),
        "name": Capture("name", (Edge(">", "parameters", do="start"),)),
        "parameters": Expect(
            (
                Edge("<parameter=", "key"),
                Edge("</function>", "function", do="finish"),
                Edge("<function=", "name", do="finish"),
                Edge("</parameter>", "parameters"),
                Edge("</tool_call>", END),
            )
        ),
        "key": Capture("key", (Edge(">", "value"),)),
        "value": RawValue(
            (
                Edge("</parameter>", "parameters"),
                Edge("<parameter=", "parameters", keep=True),
                Edge("</function>", "parameters", keep=True),
            ),
            newline=True,
        ),
    },
    thoughts=(),
    ends=("<|im_end|>", "<|endoftext|>"),
    wire=Wire(
        head="<tool_call>\n<function=",
        middle=">\n",
        tail="</function>\n</tool_call>",
        separator="\n",
        style="parameters",
        parameter=("<parameter=", ">\n", "\n</parameter>\n"),
        trigger="<tool_call>",
        omitted="<tool_call>\n",
        result="<tool_response>\n{result}\n</tool_response>",
    ),
    signs=("<tool_call>\n<function=", ">\n<parameter="),
)
