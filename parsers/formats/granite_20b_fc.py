"""Granite-20B-functioncalling: `<function_call>` before each JSON object, nothing behind it."""

from parsers.format import Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="granite_20b_fc",
    models="Granite-20B-functioncalling",
    openers={"<function_call>": "object"},
    states={
        "object": JsonCall(to="next"),
        "next": Expect((Edge("<function_call>", "object"),), otherwise="end"),
    },
    thoughts=(),
    ends=("<|endoftext|>",),
    wire=Wire(
        head='<function_call> {"name": "',
        middle='", "arguments": ',
        tail="}",
        separator="\n",
        trigger="<function_call>",
        result="<function_response> {result}",
    ),
    signs=("<function_call>",),
)
