"""Command R7B and A: a JSON array of actions with keys of their own."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Thought, Wire

FORMAT = Format(
    key="command_r7b",
    models="Command R7B",
    openers={"<|START_ACTION|>": "array"},
    states={
        "array": Expect((Edge("[", "object"), Edge("{", "object", keep=True), Edge("<|END_ACTION|>", END))),
        "object": JsonCall(to="next", names=("tool_name", "name"), ids=("tool_call_id",)),
        "next": Expect(
            (Edge(",", "object"), Edge("]", "close"), Edge("<|END_ACTION|>", END)),
            otherwise="end",
        ),
        "close": Expect((Edge("<|END_ACTION|>", END),), otherwise="end"),
    },
    thoughts=(Thought("<|START_THINKING|>", "<|END_THINKING|>"),),
    dropped=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
    ends=("<|END_OF_TURN_TOKEN|>",),
    wire=Wire(
        head='\n    {"tool_call_id": "{index}", "tool_name": "',
        middle='", "parameters": ',
        tail="}",
        opening="<|START_ACTION|>[",
        closing="\n]<|END_ACTION|>",
        separator=",",
        trigger="<|START_ACTION|>",
        answer=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    signs=("<|START_ACTION|>",),
)
