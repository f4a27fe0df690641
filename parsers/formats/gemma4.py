"""Gemma 4: `call:NAME{..}` in Gemma's notation, strings between `<|"|>`s."""

from parsers.format import END, BraceArguments, Capture, Edge, Expect, Format, Thought, Wire

FORMAT = Format(
    key="gemma4",
    models="Gemma 4",
    openers={"<|tool_call>": "call"},
    states={
        # The word `call` is sometimes left out.
        "call": Expect((Edge("call:", "name"), Edge(":", "name"), Edge("<tool_call|>", END))),
        "name": Capture("name", (Edge("{", "arguments", do="start", keep=True),)),
        "arguments": BraceArguments(to="next", mark='<|"|>'),
        "next": Expect((Edge("<tool_call|>", END), Edge("call:", "name"), Edge(",", "call")), otherwise="end"),
    },
    thoughts=(
        Thought("<|channel>thought\n", "<channel|>", after_open=0, stray="always"),
        Thought("<|channel>thought", "<channel|>", stray="always"),
        Thought("<|channel>", "<channel|>", stray="always"),
    ),
    silent="thought\n",
    ends=("<turn|>", "<|tool_response>", "<eos>"),
    wire=Wire(
        head="<|tool_call>call:",
        middle="",
        tail="<tool_call|>",
        style="braces",
        quote='<|"|>',
        trigger="<|tool_call>",
        result='<|tool_response>response:{name}{value:<|"|>{result}<|"|>}<tool_response|>',
    ),
    signs=("<|tool_call>call:",),
)
