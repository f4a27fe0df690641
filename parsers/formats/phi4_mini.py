"""Phi-4-mini: `functools` and a JSON array, or one between `<|tool_call|>` tags."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="phi4_mini",
    models="Phi-4-mini",
    openers={"functools[": "object", "<|tool_call|>": "array"},
    states={
        "array": Expect((Edge("[", "object"), Edge("{", "object", keep=True))),
        "object": JsonCall(to="next"),
        "next": Expect((Edge(",", "object"), Edge("]", "close"), Edge("<|/tool_call|>", END)), otherwise="end"),
        "close": Expect((Edge("<|/tool_call|>", END),), otherwise="end"),
    },
    thoughts=(),
    ends=("<|end|>", "<|endoftext|>"),
    wire=Wire(
        head='{"name": "',
        middle='", "arguments": ',
        tail="}",
        opening="functools[",
        closing="]",
        separator=", ",
        trigger="functools[",
    ),
    signs=("functools[",),
)
