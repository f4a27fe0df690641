"""Seed-OSS: Qwen3-Coder's calls in markers of their own, values without line feeds."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Thought, Wire

FORMAT = Format(
    key="seed_oss",
    models="Seed-OSS-36B",
    openers={"<seed:tool_call>": "function"},
    states={
        "function": Expect((Edge("<function=", "name"), Edge("</seed:tool_call>", END)), otherwise="end"),
        "name": Capture("name", (Edge(">", "parameters", do="start"),)),
        "parameters": Expect(
            (
                Edge("<parameter=", "key"),
                Edge("</function>", "function", do="finish"),
                Edge("<function=", "name", do="finish"),
                Edge("</parameter>", "parameters"),
                Edge("</seed:tool_call>", END),
            )
        ),
        "key": Capture("key", (Edge(">", "value"),)),
        "value": RawValue(
            (
                Edge("</parameter>", "parameters"),
                Edge("<parameter=", "parameters", keep=True),
                Edge("</function>", "parameters", keep=True),
            )
        ),
    },
    thoughts=(Thought("<seed:think>", "</seed:think>"),),
    ends=("<seed:eos>",),
    wire=Wire(
        head="<seed:tool_call>\n<function=",
        middle=">\n",
        tail="</function>\n</seed:tool_call>",
        separator="\n",
        style="parameters",
        parameter=("<parameter=", ">", "</parameter>\n"),
        trigger="<seed:tool_call>",
        result="<seed:bos>tool\n{result}<seed:eos>",
    ),
    signs=("<seed:tool_call>",),
)
