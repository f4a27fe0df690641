"""Apertus: a JSON array of objects whose one key is the name."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Thought, Wire

FORMAT = Format(
    key="apertus",
    models="Apertus 8B, 70B",
    openers={"<|tools_prefix|>": "array"},
    states={
        "array": Expect((Edge("[", "object"), Edge("{", "object", keep=True), Edge("<|tools_suffix|>", END))),
        "object": JsonCall(to="next", named_by_key=True),
        "next": Expect(
            (Edge(",", "object"), Edge("]", "close"), Edge("<|tools_suffix|>", END)),
            otherwise="end",
        ),
        "close": Expect((Edge("<|tools_suffix|>", END),), otherwise="end"),
    },
    thoughts=(Thought("<|inner_prefix|>", "<|inner_suffix|>"),),
    ends=("<|assistant_end|>",),
    wire=Wire(
        head='{"',
        middle='": ',
        tail="}",
        opening="<|tools_prefix|>[",
        closing="]<|tools_suffix|>",
        separator=", ",
        trigger="<|tools_prefix|>",
        result="[{result}]",
    ),
    signs=("<|tools_prefix|>",),
)
