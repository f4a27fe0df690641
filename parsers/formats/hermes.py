"""Hermes 2 Pro, Qwen 2.5 and 3, and their many relatives: a JSON object between `<tool_call>` tags."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="hermes",
    models="Hermes 2 Pro and 3, Qwen2.5, QwQ, Qwen3, MiMo-VL, Bielik 3, EXAONE",
    openers={"<tool_call>": "inside"},
    states={
        "inside": Expect((Edge("{", "object", keep=True), Edge("[", "object"), Edge("</tool_call>", END))),
        "object": JsonCall(to="close"),
        # Several calls in one block, with or without a list round them, are none of the template's making.
        "close": Expect(
            (
                Edge("</tool_call>", END),
                Edge("{", "object", keep=True),
                Edge(",", "object"),
                Edge("]", "close"),
            ),
            otherwise="end",
        ),
    },
    ends=("<|im_end|>", "<|endoftext|>"),
    wire=Wire(
        head='<tool_call>\n{"name": "',
        middle='", "arguments": ',
        tail="}\n</tool_call>",
        separator="\n",
        trigger="<tool_call>",
        result="<tool_response>\n{result}\n</tool_response>",
    ),
    signs=('<tool_call>\n{"name":', "</tool_call>"),
)
