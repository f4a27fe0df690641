"""PLaMo 3: name and JSON behind markers of their own, in a section of requests."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, Thought, Wire

_REQUEST, _NAME = "<|plamo:begin_tool_request:plamo|>", "<|plamo:begin_tool_name:plamo|>"
_ARGUMENTS = "<|plamo:begin_tool_arguments:plamo|>"

FORMAT = Format(
    key="plamo3",
    models="PLaMo 3",
    openers={"<|plamo:begin_tool_requests:plamo|>": "request"},
    states={
        "request": Expect((Edge(_REQUEST, "header"), Edge("<|plamo:end_tool_requests:plamo|>", END)), otherwise="end"),
        "header": Expect((Edge(_NAME, "name"),)),
        "name": Capture("name", (Edge("<|plamo:end_tool_name:plamo|>", "before"),), partial=True),
        "before": Expect(
            (
                Edge(_ARGUMENTS + "<|plamo:constrain|>json<|plamo:msg|>", "arguments"),
                Edge(_ARGUMENTS + "json<|plamo:msg|>", "arguments"),
                Edge(_ARGUMENTS, "arguments"),
            )
        ),
        "arguments": JsonArguments(to="after"),
        "after": Expect((Edge("<|plamo:end_tool_arguments:plamo|>", "close"),), otherwise="end"),
        "close": Expect((Edge("<|plamo:end_tool_request:plamo|>", "request"),), otherwise="end"),
    },
    thoughts=(Thought("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>"),),
    ends=("<|plamo:tag|>", "<|plamo:turn|>", "<|plamo:eos|>", "<|plamo:tokens_end|>"),
    wire=Wire(
        head=_REQUEST + _NAME,
        middle="<|plamo:end_tool_name:plamo|>" + _ARGUMENTS + "<|plamo:constrain|>json<|plamo:msg|>",
        tail="<|plamo:end_tool_arguments:plamo|><|plamo:end_tool_request:plamo|>",
        opening="<|plamo:begin_tool_requests:plamo|>",
        closing="<|plamo:end_tool_requests:plamo|>",
        trigger="<|plamo:begin_tool_requests:plamo|>",
    ),
    signs=("<|plamo:begin_tool_requests:plamo|>",),
)
