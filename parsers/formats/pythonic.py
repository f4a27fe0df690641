"""A list of Python calls and nothing else: Llama 3.2, ToolACE, Gemma 3 when prompted so."""

from parsers.format import END, Capture, Edge, Expect, Format, PythonArguments, Wire

FORMAT = Format(
    key="pythonic",
    models="Llama 3.2, ToolACE, Gemma 3, many small models",
    bare="list",
    bare_first="[",
    states={
        "list": Expect((Edge("[", "name"),)),
        "name": Capture("name", (Edge("(", "arguments", do="start"),), identifier=True),
        "arguments": PythonArguments(to="next"),
        "next": Expect((Edge(",", "name"), Edge("]", END)), otherwise="end"),
    },
    thoughts=(),
    ends=("<|eot_id|>", "<|eom_id|>", "<end_of_turn>"),
    wire=Wire(head="", middle="(", tail=")", opening="[", closing="]", separator=", ", style="python"),
    signs=("[", '="', ")]"),
)
