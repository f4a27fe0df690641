"""MiniMax-M3: nested elements, every tag behind a marker of its own."""

from parsers.format import END, Capture, Edge, ElementArguments, Expect, Format, Thought, Wire

_MARK = "]<]minimax[>["

FORMAT = Format(
    key="minimax_m3",
    models="MiniMax-M3",
    openers={_MARK + "<tool_call>": "invoke"},
    states={
        "invoke": Expect((Edge(_MARK + '<invoke name="', "name"), Edge(_MARK + "</tool_call>", END)), otherwise="end"),
        "name": Capture("name", (Edge('">', "arguments", do="start"),)),
        "arguments": ElementArguments(to="invoke", mark=_MARK, close="invoke"),
    },
    thoughts=(Thought("<mm:think>", "</mm:think>", stray="always"),),
    ends=("[e~[",),
    wire=Wire(
        head=_MARK + '<invoke name="',
        middle='">',
        tail=_MARK + "</invoke>\n",
        opening=_MARK + "<tool_call>\n",
        closing=_MARK + "</tool_call>",
        style="elements",
        quote=_MARK,
        trigger=_MARK,
        result="<response>{result}</response>",
    ),
    signs=(_MARK,),
)
