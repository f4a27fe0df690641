"""Phi-4-mini: `functools` and a JSON array, or one between `<|tool_call|>` tags."""

from dataclasses import replace

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

_WIRE = Wire(
    head='{"name": "',
    middle='", "arguments": ',
    tail="}",
    opening="functools[",
    closing="]",
    separator=", ",
    trigger="functools[",
)

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
    wire=replace(
        _WIRE, also=(replace(_WIRE, opening="<|tool_call|>[", closing="]<|/tool_call|>", trigger="<|tool_call|>"),)
    ),
    signs=("functools[",),
)
