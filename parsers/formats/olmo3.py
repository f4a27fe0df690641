"""OLMo 3: Python calls on lines of their own between `<function_calls>` tags."""

from parsers.format import END, Capture, Edge, Expect, Format, PythonArguments, Wire

FORMAT = Format(
    key="olmo3",
    models="OLMo-3",
    openers={"<function_calls>": "first"},
    states={
        "first": Expect((Edge("</function_calls>", END), Edge("[", "name"), Edge("", "name"))),
        "name": Capture("name", (Edge("(", "arguments", do="start"),), identifier=True),
        "arguments": PythonArguments(to="next"),
        "next": Expect(
            (
                Edge("</function_calls>", END),
                Edge(",", "name"),
                Edge("]", "next"),
                Edge("", "name"),
            ),
            otherwise="end",
        ),
    },
    ends=("<|im_end|>", "<|endoftext|>"),
    wire=Wire(
        head="",
        middle="(",
        tail=")",
        opening="<function_calls>",
        closing="</function_calls>",
        separator="\n",
        style="python",
        trigger="<function_calls>",
    ),
    signs=("<function_calls>",),
)
