"""A model whose format nobody knows: JSON calls between `<tool_call>` tags, or bare JSON that can be nothing else."""

from dataclasses import replace

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

_BARE = Wire(head='{"name": "', middle='", "arguments": ', tail="}", separator="\n")

FORMAT = Format(
    key="generic_none",
    models="unknown models",
    openers={"<tool_call>": "first"},
    bare="first",
    states={
        "first": Expect((Edge("[", "object"), Edge("{", "object", keep=True))),
        "object": JsonCall(to="next"),
        "next": Expect(
            (
                Edge(",", "object"),
                Edge(";", "object"),
                Edge("{", "object", keep=True),
                Edge("]", "close"),
                Edge("</tool_call>", END),
            ),
            otherwise="end",
        ),
        "close": Expect((Edge("</tool_call>", END),), otherwise="end"),
    },
    ends=("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>"),
    wire=replace(_BARE, head='<tool_call>\n{"name": "', tail="}\n</tool_call>", trigger="<tool_call>", also=(_BARE,)),
)
