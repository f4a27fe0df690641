"""Functionary 3.2: each message names its recipient, a tool or `all`, on the first line."""

from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, Wire

FORMAT = Format(
    key="functionary_v32",
    models="Functionary v3.2",
    openers={">>>": "recipient"},
    bare="recipient",
    bare_first="",
    messages=True,
    states={
        "recipient": Expect((Edge("all\n", END), Edge("", "name")), space=False),
        "name": Capture("name", (Edge("\n", "arguments"),), identifier=True),
        "arguments": JsonArguments(to="next"),
        "next": Expect((Edge(">>>", "recipient"),), otherwise="end"),
    },
    thoughts=(),
    ends=("<|eot_id|>", "<|eom_id|>"),
    wire=Wire(head="", middle="\n", tail="", separator=">>>", lead=(">>>",), answer=("all\n", "")),
    signs=(">>>",),
)
