"""Hunyuan Hy3: GLM's pairs in a section of calls; released tokens carry the suffix `:opensource`."""

from dataclasses import replace

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Thought, Wire

_S = ":opensource"


def _wire(suffix: str) -> Wire:
    return Wire(
        head=f"<tool_call{suffix}>",
        middle=f"<tool_sep{suffix}>\n",
        tail=f"</tool_call{suffix}>\n",
        opening=f"<tool_calls{suffix}>\n",
        closing=f"</tool_calls{suffix}>",
        style="parameters",
        parameter=(f"<arg_key{suffix}>", f"</arg_key{suffix}>\n<arg_value{suffix}>", f"</arg_value{suffix}>\n"),
        trigger=f"<tool_calls{suffix}>",
        omitted=f"<tool_calls{suffix}>\n",
        result="<tool_response>\n{result}\n</tool_response>\n",
    )


FORMAT = Format(
    key="hy_v3",
    models="Hunyuan Hy3",
    openers={"<tool_calls>": "call", f"<tool_calls{_S}>": "call", "<tool_call>": "name", f"<tool_call{_S}>": "name"},
    states={
        "call": Expect(
            (
                Edge("<tool_call>", "name"),
                Edge(f"<tool_call{_S}>", "name"),
                Edge("</tool_calls>", END),
                Edge(f"</tool_calls{_S}>", END),
            ),
            otherwise="end",
        ),
        "name": Capture(
            "name", (Edge("<tool_sep>", "parameters", do="start"), Edge(f"<tool_sep{_S}>", "parameters", do="start"))
        ),
        "parameters": Expect(
            (
                Edge("<arg_key>", "key"),
                Edge(f"<arg_key{_S}>", "key"),
                Edge("</tool_call>", "call", do="finish"),
                Edge(f"</tool_call{_S}>", "call", do="finish"),
                Edge("</tool_calls>", END),
                Edge(f"</tool_calls{_S}>", END),
            )
        ),
        "key": Capture("key", (Edge("</arg_key>", "between"), Edge(f"</arg_key{_S}>", "between"))),
        "between": Expect(
            (
                Edge("<arg_value>", "value"),
                Edge(f"<arg_value{_S}>", "value"),
                Edge("<arg_key>", "key"),
                Edge(f"<arg_key{_S}>", "key"),
                Edge("</tool_call>", "call", do="finish"),
                Edge(f"</tool_call{_S}>", "call", do="finish"),
            )
        ),
        "value": RawValue(
            (
                Edge("</arg_value>", "parameters"),
                Edge(f"</arg_value{_S}>", "parameters"),
                Edge("</tool_call>", "parameters", keep=True),
                Edge(f"</tool_call{_S}>", "parameters", keep=True),
            )
        ),
    },
    thoughts=(Thought("<think>", "</think>"), Thought(f"<think{_S}>", f"</think{_S}>")),
    ends=("<｜hy_eos｜>", f"<｜hy_eos{_S}｜>", "<|eos|>"),
    wire=replace(_wire(""), also=(_wire(_S),)),
    signs=("<tool_sep", "<arg_key"),
)
