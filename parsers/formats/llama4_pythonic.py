"""Llama 4: a list of Python calls, sometimes between `<|python_start|>` and `<|python_end|>`."""

from parsers.format import END, Capture, Edge, Expect, Format, PythonArguments, Wire

FORMAT = Format(
    key="llama4_pythonic",
    models="Llama 4",
    openers={"<|python_start|>": "list"},
    bare="list",
    bare_first="[",
    states={
        "list": Expect((Edge("[", "name"), Edge("<|python_end|>", END))),
        "name": Capture("name", (Edge("(", "arguments", do="start"),), identifier=True),
        "arguments": PythonArguments(to="next"),
        "next": Expect((Edge(",", "name"), Edge("]", "close"), Edge("<|python_end|>", END)), otherwise="end"),
        "close": Expect((Edge("<|python_end|>", END),), otherwise="end"),
    },
    thoughts=(),
    ends=("<|eot|>", "<|eom|>"),
    wire=Wire(
        head="",
        middle="(",
        tail=")",
        opening="[",
        closing="]",
        separator=", ",
        style="python",
        lead=("<|python_start|>",),
    ),
    signs=("[", '="', ")]"),
)
