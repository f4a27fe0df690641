"""gpt-oss (Harmony): messages with a channel and a recipient; a message to a function is a call."""

from dataclasses import replace

from parsers.format import END, Edge, Expect, Format, Header, JsonArguments, Thought, Wire

# The recipient may stand before the channel, too.
_WIRE = Wire(
    head=" to=functions.",
    middle="<|channel|>commentary <|constrain|>json<|message|>",
    tail="<|call|>",
    separator="<|start|>assistant",
    trigger=" to=functions.",
    lead=("<|start|>assistant",),
    answer=("<|channel|>final<|message|>", ""),
)

FORMAT = Format(
    key="gpt_oss",
    models="gpt-oss-20b, gpt-oss-120b",
    openers={"<|start|>": "header", "<|channel|>": "header"},
    messages=True,
    bare="recipient",
    bare_first="t",
    bare_sure=True,
    states={
        "recipient": Expect((Edge("to=", "header", keep=True),)),
        "header": Header(to="arguments"),
        "arguments": JsonArguments(to="close"),
        "close": Expect((Edge("<|call|>", END), Edge("<|end|>", END), Edge("<|return|>", END)), otherwise="end"),
    },
    thoughts=(Thought("<|channel|>analysis<|message|>", "<|end|>", after_open=0, before_close=0, after_close=0),),
    dropped=("<|end|>", "<|call|>", "<|return|>", "<|message|>"),
    ends=("<|endoftext|>",),
    newlines=0,
    wire=replace(
        _WIRE,
        head="<|channel|>commentary to=functions.",
        middle=" <|constrain|>json<|message|>",
        trigger="<|channel|>commentary to=functions.",
        also=(_WIRE,),
    ),
    signs=("to=functions.", "<|channel|>commentary"),
)
