"""Kimi K2: a section of calls, each with an identifier `functions.NAME:NUMBER` for a header."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, Wire

FORMAT = Format(
    key="kimi_k2",
    models="Kimi-K2, K2-Thinking, K2.5, K2.6",
    openers={"<|tool_calls_section_begin|>": "section", "<|tool_call_begin|>": "name"},
    states={
        "section": Expect(
            (Edge("<|tool_call_begin|>", "name"), Edge("<|tool_calls_section_end|>", END)),
            otherwise="end",
        ),
        "name": Capture(
            "name", (Edge("<|tool_call_argument_begin|>", "arguments"),), prefix="functions.", numbered=True
        ),
        "arguments": JsonArguments(to="close"),
        "close": Expect((Edge("<|tool_call_end|>", "section"),), otherwise="end"),
    },
    ends=("<|im_end|>",),
    wire=Wire(
        head="<|tool_call_begin|>functions.",
        middle=":{index}<|tool_call_argument_begin|>",
        tail="<|tool_call_end|>",
        opening="<|tool_calls_section_begin|>",
        closing="<|tool_calls_section_end|>",
        trigger="<|tool_calls_section_begin|>",
        omitted="<|tool_calls_section_begin|>",
        result="## Return of {id}\n{result}",
    ),
    call_id="numbered",
    signs=("<|tool_calls_section_begin|>",),
)
