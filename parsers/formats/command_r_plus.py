"""Command R and R+: `Action:` and a JSON array in a code fence."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="command_r_plus",
    models="Command R, Command R+",
    openers={"Action:\n```json\n": "array", "Action: ```json\n": "array"},
    states={
        "array": Expect((Edge("[", "object"), Edge("```", END))),
        "object": JsonCall(to="next", names=("tool_name", "name"), ids=("tool_call_id",)),
        "next": Expect((Edge(",", "object"), Edge("]", "close"), Edge("```", END)), otherwise="end"),
        "close": Expect((Edge("```", END),), otherwise="end"),
    },
    thoughts=(),
    fenced=True,
    dropped=("<|CHATBOT_TOKEN|>",),
    ends=("<|END_OF_TURN_TOKEN|>",),
    wire=Wire(
        head='\n    {\n        "tool_name": "',
        middle='",\n        "parameters": ',
        tail="\n    }",
        opening="Action:\n```json\n[",
        closing="\n]\n```",
        separator=",",
        trigger="Action:",
        result="<results>\n{result}</results>",
    ),
    signs=("Action:\n```json\n",),
)
