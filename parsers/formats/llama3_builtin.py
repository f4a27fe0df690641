"""Llama 3.1's built-in tools: `NAME.call(KEY="..")` behind `<|python_tag|>`; JSON calls as in `llama3_json`."""

from parsers.format import Capture, Edge, Expect, Format, JsonCall, PythonArguments, Wire

_TAG = "<|python_tag|>"

FORMAT = Format(
    key="llama3_builtin",
    models="Llama 3.1 with brave_search, wolfram_alpha, code_interpreter",
    openers={_TAG: "kind"},
    states={
        "kind": Expect((Edge("{", "object", keep=True), Edge("", "name"))),
        "object": JsonCall(to="next"),
        "name": Capture("name", (Edge("(", "arguments", do="start"),), identifier=True, suffix=".call"),
        "arguments": PythonArguments(to="next"),
        "next": Expect((Edge(_TAG, "kind"), Edge(";", "kind")), otherwise="end"),
    },
    thoughts=(),
    ends=("<|eom_id|>", "<|eot_id|>"),
    wire=Wire(
        head="",
        middle=".call(",
        tail=")",
        opening=_TAG,
        separator="; ",
        style="python",
        trigger=_TAG,
        also=(Wire(head='{"name": "', middle='", "parameters": ', tail="}", opening=_TAG, trigger=_TAG),),
    ),
    signs=(_TAG, ".call("),
)
