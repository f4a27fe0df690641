"""Muse (ATEM): messages with a recipient; one to a tool holds invocations with named parameters."""

from parsers.format import END, Capture, Edge, Expect, Format, Header, RawValue, Thought, Wire

_CLOSE = "</atem:function_calls>"

FORMAT = Format(
    key="muse_glimmer",
    models="Muse Glimmer",
    openers={"<|start|>": "header", "<atem:function_calls>": "invoke"},
    messages=True,
    bare="recipient",
    bare_first="t",
    bare_sure=True,
    states={
        "recipient": Expect((Edge("to=", "header", keep=True),)),
        "header": Header(to="block", prefix="", people=("user", "all", "assistant", "commentary")),
        "block": Expect((Edge("<atem:function_calls>", "invoke"),)),
        "invoke": Expect((Edge('<atem:invoke name="', "name"), Edge(_CLOSE, END)), otherwise="end"),
        "name": Capture("name", (Edge('">', "parameters", do="start"),), doubled=True),
        "parameters": Expect(
            (
                Edge('<atem:parameter name="', "key"),
                Edge("</atem:invoke>", "invoke", do="finish"),
                Edge(_CLOSE, END),
            )
        ),
        "key": Capture("key", (Edge('">', "value"),)),
        "value": RawValue((Edge("</atem:parameter>", "parameters"), Edge("</atem:invoke>", "parameters", keep=True))),
    },
    thoughts=(Thought(" to=self<|message|>", "<|eom|>", after_open=0, before_close=0, after_close=0),),
    dropped=("<|eom|>", "<|eot|>", "<|message|>"),
    newlines=0,
    wire=Wire(
        head='<|start|>assistant to={name}<|message|><atem:function_calls>\n<atem:invoke name="',
        middle='">\n',
        tail="</atem:invoke>\n</atem:function_calls>",
        separator="<|eom|>",
        style="parameters",
        parameter=('<atem:parameter name="', '">', "</atem:parameter>\n"),
        trigger=" to=",
        lead=("<|start|>assistant",),
        omitted="<|start|>assistant to={name}<|message|>",
        answer=(" to=user<|message|>", ""),
    ),
    signs=("<atem:function_calls>",),
)
