"""Hunyuan-A13B: a JSON array of calls."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="hunyuan_a13b",
    models="Hunyuan-A13B",
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
    dropped=("<answer>\n", "\n</answer>", "<answer>", "</answer>"),
    ends=("<|eos|>",),
    wire=Wire(
        head='{"name": "',
        middle='", "arguments": ',
        tail="}",
        opening="<tool_calls>[",
        closing="]</tool_calls>",
        separator=", ",
        trigger="<tool_calls>",
        answer=("<answer>\n", "\n</answer>"),
    ),
    signs=("<tool_calls>",),
)
