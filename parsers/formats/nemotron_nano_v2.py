"""Nemotron-Nano-v2, Llama-Nemotron: a JSON array of calls."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="nemotron_nano_v2",
    models="Nemotron-Nano-v2, Llama-Nemotron",
    openers={"<TOOLCALL>": "array"},
    states={
        "array": Expect((Edge("[", "object"), Edge("{", "object", keep=True), Edge("</TOOLCALL>", END))),
        "object": JsonCall(to="next"),
        "next": Expect(
            (
                Edge(",", "object"),
                Edge("{", "object", keep=True),
                Edge("]", "close"),
                Edge("</TOOLCALL>", END),
            ),
            otherwise="end",
        ),
        "close": Expect((Edge("</TOOLCALL>", END),), otherwise="end"),
    },
    ends=("<SPECIAL_12>", "</s>"),
    wire=Wire(
        head='{"name": "',
        middle='", "arguments": ',
        tail="}",
        opening="<TOOLCALL>[",
        closing="]</TOOLCALL>",
        separator=", ",
        trigger="<TOOLCALL>",
    ),
    signs=("<TOOLCALL>",),
)
