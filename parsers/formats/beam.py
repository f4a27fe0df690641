"""Beam: Harmony's messages, with raw parameters in a call."""

from parsers.format import END, Capture, Edge, Expect, Format, Header, RawValue, Thought, Wire

FORMAT = Format(
    key="beam",
    models="Beam",
    openers={"<|start|>": "header", "<|channel|>": "header"},
    messages=True,
    bare="recipient",
    bare_first="t",
    bare_sure=True,
    states={
        "recipient": Expect((Edge("to=", "header", keep=True),)),
        "header": Header(to="first"),
        "first": Expect(
            (
                Edge('<rfl:parameter name="', "key", do="start"),
                Edge("<|call|>", END, do="start"),
                Edge("<|end|>", END, do="start"),
            )
        ),
        "parameters": Expect((Edge('<rfl:parameter name="', "key"), Edge("<|call|>", END), Edge("<|end|>", END))),
        "key": Capture("key", (Edge('">', "value"),)),
        "value": RawValue(
            (
                Edge("</rfl:parameter>", "parameters"),
                Edge('<rfl:parameter name="', "parameters", keep=True),
                Edge("<|call|>", "parameters", keep=True),
            ),
            newline=True,
        ),
    },
    thoughts=(Thought("<|channel|>analysis<|message|>", "<|end|>", after_open=0, before_close=0, after_close=0),),
    dropped=("<|end|>", "<|call|>", "<|return|>", "<|message|>"),
    ends=("<|endoftext|>",),
    newlines=0,
    wire=Wire(
        head="<|start|>assistant to=",
        middle="<|channel|>analysis <|constrain|>xml<|message|>",
        tail="<|call|>",
        style="parameters",
        parameter=('<rfl:parameter name="', '">\n', "\n</rfl:parameter>"),
        trigger=" to=",
        lead=("<|start|>assistant",),
        answer=("<|channel|>final<|message|>", ""),
    ),
    signs=('<rfl:parameter name="',),
)
