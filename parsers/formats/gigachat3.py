"""GigaChat 3: a message of the role `function call` with one JSON object."""

from dataclasses import replace

from parsers.format import Edge, Expect, Format, JsonCall, Wire

_ROLE = "function call<|role_sep|>\n"

_WIRE = Wire(
    head=f'{_ROLE}{{"name": "',
    middle='", "arguments": ',
    tail="}",
    trigger="function call<|role_sep|>",
    lead=("<|message_sep|>\n\n",),
)

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
    wire=replace(
        _WIRE,
        head="<|message_sep|>\n\n" + _WIRE.head,
        also=(replace(_WIRE, head='<|function_call|>{"name": "', trigger="<|function_call|>", lead=()),),
    ),
    signs=("function call<|role_sep|>",),
)
