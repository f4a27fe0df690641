"""Inkling: every block begins with a marker of its kind; a call is one JSON object with `args`."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonCall, Thought, Wire

_CALL = "<|content_invoke_tool_json|>"

FORMAT = Format(
    key="inkling",
    models="Inkling",
    openers={_CALL: "object"},
    bare="header",
    bare_first="",
    bare_sure=True,
    states={
        # The name may stand before the marker, too.
        "header": Capture("name", (Edge(_CALL, "object"),), declared=True),
        "object": JsonCall(to="close", arguments=("args", "arguments")),
        "close": Expect((Edge("<|end_message|>", END),), otherwise="end"),
    },
    thoughts=(
        Thought("<|content_thinking|>", "<|end_message|>", after_open=0, before_close=0, after_close=0, stray="always"),
    ),
    dropped=(
        "<|content_text|>",
        "<|end_message|>",
        "<|message_model|>",
        "<|content_tool_error|>",
        "<|content_invoke_tool_text|>",
    ),
    ends=("<|content_model_end_sampling|>",),
    newlines=0,
    wire=Wire(
        head=_CALL + '{"name": "',
        middle='", "args": ',
        tail="}<|end_message|>",
        separator="<|message_model|>",
        trigger=_CALL,
        lead=("<|message_model|>",),
        answer=("<|content_text|>", "<|end_message|>"),
    ),
    signs=(_CALL,),
)
