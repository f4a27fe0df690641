"""FunctionGemma: `call:NAME{..}` in Gemma's notation, strings between `<escape>`s."""

from parsers.format import END, BraceArguments, Capture, Edge, Expect, Format, Wire

FORMAT = Format(
    key="functiongemma",
    models="FunctionGemma-270M",
    openers={"<start_function_call>": "call"},
    states={
        "call": Expect((Edge("call:", "name"), Edge("<end_function_call>", END))),
        "name": Capture("name", (Edge("{", "arguments", do="start", keep=True),)),
        "arguments": BraceArguments(to="next", mark="<escape>"),
        "next": Expect((Edge("<end_function_call>", END), Edge("call:", "name"), Edge(",", "call")), otherwise="end"),
    },
    thoughts=(),
    ends=("<end_of_turn>", "<start_function_response>", "<eos>"),
    wire=Wire(
        head="<start_function_call>call:",
        middle="",
        tail="<end_function_call>",
        style="braces",
        quote="<escape>",
        trigger="<start_function_call>",
    ),
    signs=("<start_function_call>",),
)
