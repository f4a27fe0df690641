"""Jamba 1.5 and later: a JSON array of calls."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="jamba",
    models="Jamba 1.5 and later",
    openers={"<tool_calls>": "array"},
    states={
        "array": Expect((Edge("[", "object"), Edge("{", "object", keep=True), Edge("</tool_calls>", END))),
        "object": JsonCall(to="next"),
        "next": Expect(
            (
                Edge(",", "object"),
                Edge("{", "object", keep=True),
                Edge("]", "close"),
                Edge("</tool_calls>", END),
            ),
            otherwise="end",
        ),
        "close": Expect((Edge("</tool_calls>", END),), otherwise="end"),
    },
    thoughts=(),
    ends=("<|endoftext|>",),
    wire=Wire(
        head='{"name": "',
        middle='", "arguments": ',
        tail="}",
        opening="<tool_calls>[",
        closing="]</tool_calls>",
        separator=", ",
        trigger="<tool_calls>",
    ),
    signs=("<tool_calls>",),
)
