"""Cohere's models after Command A: calls as elements with attributes, parameters as elements inside."""

from parsers.format import END, Capture, Edge, Expect, Format, RawValue, Thought, Wire

_CALL, _PARAMETER = "<cofl:tool_call", "<cofl:parameter"

FORMAT = Format(
    key="cohere_command4",
    models="Cohere models after Command A",
    openers={"<cofl:tool_calls>": "call"},
    states={
        "call": Expect(
            (Edge(f'{_CALL} id="', "identifier"), Edge(f'{_CALL} name="', "name"), Edge("</cofl:tool_calls>", END)),
            otherwise="end",
        ),
        "identifier": Capture("id", (Edge('" name="', "name"),)),
        "name": Capture("name", (Edge('">', "parameters", do="start"),)),
        "parameters": Expect(
            (
                Edge(f'{_PARAMETER} name="', "key"),
                Edge("</cofl:tool_call>", "call", do="finish"),
                Edge("</cofl:tool_calls>", END),
            )
        ),
        "key": Capture("key", (Edge('" type="string">', "value", kind="string"), Edge('">', "value"))),
        "value": RawValue(
            (Edge("</cofl:parameter>", "parameters"), Edge("</cofl:tool_call>", "parameters", keep=True))
        ),
    },
    thoughts=(Thought("<|START_THINKING|>", "<|END_THINKING|>"),),
    dropped=("<|START_TEXT|>", "<|END_TEXT|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ends=("<|END_OF_TURN_TOKEN|>",),
    wire=Wire(
        head=f'{_CALL} id="{{index}}" name="',
        middle='">',
        tail="</cofl:tool_call>",
        opening="<cofl:tool_calls>",
        closing="</cofl:tool_calls>",
        style="parameters",
        parameter=(f'{_PARAMETER} name="', '">', "</cofl:parameter>"),
        trigger="<cofl:tool_calls>",
        answer=("<|START_TEXT|>", "<|END_TEXT|>"),
    ),
    signs=("<cofl:tool_calls>",),
)
