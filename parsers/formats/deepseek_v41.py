"""DeepSeek V4.1: blocks of invocations in DSML, each parameter with a flag that says whether it is a string."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Wire

_M = "｜DSML｜ "

FORMAT = Format(
    key="deepseek_v41",
    models="DeepSeek V4.1",
    # The outer marker is sometimes left out.
    openers={f"<{_M}calls>": "invoke", f'<{_M}invoke name="': "name"},
    states={
        "invoke": Expect((Edge(f'<{_M}invoke name="', "name"), Edge(f"</{_M}calls>", END)), otherwise="end"),
        "name": Capture("name", (Edge('">', "parameters", do="start"),)),
        "parameters": Expect(
            (
                Edge(f'<{_M}parameter name="', "key"),
                Edge(f"</{_M}invoke>", "invoke", do="finish"),
                Edge(f"</{_M}calls>", END),
            )
        ),
        "key": Capture(
            "key",
            (
                Edge('" string="true">', "value", kind="string"),
                Edge('" string="false">', "value", kind="json"),
                Edge('">', "value"),
            ),
        ),
        "value": RawValue((Edge(f"</{_M}parameter>", "parameters"), Edge(f"</{_M}invoke>", "parameters", keep=True))),
    },
    ends=("<｜end▁of▁sentence｜>",),
    newlines=2,
    wire=Wire(
        head=f'<{_M}invoke name="',
        middle='">\n',
        tail=f"</{_M}invoke>\n",
        opening=f"<{_M}calls>\n",
        closing=f"</{_M}calls>",
        style="parameters",
        parameter=(f'<{_M}parameter name="', '" string="{string}">', f"</{_M}parameter>\n"),
        trigger=f"<{_M}calls>",
        omitted=f"<{_M}calls>\n",
    ),
    signs=(f"<{_M}calls>",),
)
