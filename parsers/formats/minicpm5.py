"""MiniCPM5: `<function name=..>` with `<param>`s, in CDATA where they hold markup; undeclared calls are text."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Wire

FORMAT = Format(
    key="minicpm5",
    models="MiniCPM5",
    # Where the tokenizer has lost the space, too.
    openers={'<function name="': "name", '<functionname="': "name"},
    states={
        "name": Capture(
            "name", (Edge('">', "parameters", do="start"), Edge('"/>', END, do="start"), Edge('" />', END, do="start"))
        ),
        "parameters": Expect((Edge('<param name="', "key"), Edge('<paramname="', "key"), Edge("</function>", END))),
        "key": Capture("key", (Edge('">', "kind"),)),
        "kind": Expect((Edge("<![CDATA[", "quoted"), Edge("", "value")), space=False),
        "quoted": RawValue((Edge("]]></param>", "parameters"),)),
        "value": RawValue(
            (
                Edge("</param>", "parameters"),
                Edge('<param name="', "parameters", keep=True),
                Edge('<paramname="', "parameters", keep=True),
                Edge("</function>", "parameters", keep=True),
            )
        ),
    },
    declared_only=True,
    ends=("<|im_end|>", "</s>"),
    wire=Wire(
        head='<function name="',
        middle='">',
        tail="</function>",
        separator="\n",
        style="parameters",
        parameter=('<param name="', '">', "</param>"),
        trigger='<function name="',
        result="<tool_response>\n{result}\n</tool_response>",
    ),
    signs=('<function name="', '<param name="'),
)
