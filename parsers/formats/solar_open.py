"""Solar Open: identifier, name and JSON behind markers of their own."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, Thought, Wire

FORMAT = Format(
    key="solar_open",
    models="Solar-Open-100B",
    openers={"<|tool_calls|>": "section", "<|tool_call:begin|>": "identifier"},
    states={
        "section": Expect((Edge("<|tool_call:begin|>", "identifier"), Edge("<|calls|>", END)), otherwise="end"),
        "identifier": Capture("id", (Edge("<|tool_call:name|>", "name"),)),
        "name": Capture("name", (Edge("<|tool_call:args|>", "arguments"),)),
        "arguments": JsonArguments(to="close"),
        "close": Expect((Edge("<|tool_call:end|>", "section"),), otherwise="end"),
    },
    thoughts=(Thought("<|think|>", "<|end|>"),),
    dropped=("<|begin|>assistant", "<|content|>"),
    ends=("<|end|>", "<|flush|>", "<|calls|>"),
    wire=Wire(
        head="<|tool_call:begin|>{id}<|tool_call:name|>",
        middle="<|tool_call:args|>",
        tail="<|tool_call:end|>",
        opening="<|tool_calls|>",
        closing="<|calls|>",
        trigger="<|tool_calls|>",
        lead=("<|begin|>assistant",),
        omitted="<|tool_calls|>",
        answer=("<|content|>", ""),
        identifier="[A-Za-z0-9_]{1,40}",
    ),
    signs=("<|tool_call:begin|>",),
)
