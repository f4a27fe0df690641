"""xLAM 2: a bare JSON array; also in a code fence or behind a marker of another family."""

from parsers.format import END, Edge, Expect, Format, JsonCall, Wire

FORMAT = Format(
    key="xlam",
    models="xLAM-2",
    openers={"[TOOL_CALLS]": "array", "<tool_call>": "array", "```json\n[": "object", "```\n[": "object"},
    bare="array",
    states={
        "array": Expect((Edge("[", "object"), Edge("{", "object", keep=True))),
        "object": JsonCall(to="next"),
        "next": Expect((Edge(",", "object"), Edge("{", "object", keep=True), Edge("]", "close")), otherwise="end"),
        "close": Expect((Edge("```", END), Edge("</tool_call>", END)), otherwise="end"),
    },
    fenced=True,
    ends=("<|im_end|>", "<|eot_id|>"),
    wire=Wire(head='{"name": "', middle='", "arguments": ', tail="}", opening="[", closing="]", separator=", "),
    signs=('[{"name": "', '"arguments": '),
)
