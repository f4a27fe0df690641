"""GigaChat 3: a message of the role `function call` with one JSON object."""

from parsers.format import Edge, Expect, Format, JsonCall, Wire

_ROLE = "function call<|role_sep|>\n"

FORMAT = Format(
    key="gigachat3",
    models="GigaChat 3",
    openers={"<|message_sep|>\n\n" + _ROLE: "object", _ROLE: "object", "<|function_call|>": "object"},
    states={
        "object": JsonCall(to="next"),
        "next": Expect(
            (Edge("<|message_sep|>\n\n" + _ROLE, "object"), Edge("<|function_call|>", "object")),
            otherwise="end",
        ),
    },
    ends=("<|message_sep|>", "</s>"),
    wire=Wire(
        head='<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "',
        middle='", "arguments": ',
        tail="}",
        trigger="function call<|role_sep|>",
    ),
    signs=("function call<|role_sep|>",),
)
