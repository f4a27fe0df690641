"""Mistral: `[TOOL_CALLS]` and either a JSON array (v3) or NAME, perhaps an identifier, and `[ARGS]` (v11)."""

from dataclasses import replace

from parsers.format import Capture, Edge, Expect, Format, JsonArguments, JsonCall, Thought, Wire

_OPEN = "[TOOL_CALLS]"

_WIRE = Wire(head=_OPEN, middle="[ARGS]", tail="", trigger=_OPEN, result="[TOOL_RESULTS]{result}[/TOOL_RESULTS]")
_ARRAY = replace(
    _WIRE,
    head='{"name": "',
    middle='", "arguments": ',
    tail=', "id": "{id}"}',
    opening=_OPEN + "[",
    closing="]",
    separator=", ",
)

FORMAT = Format(
    key="mistral",
    models="Mistral, Ministral, Magistral, Devstral",
    openers={_OPEN: "kind"},
    states={
        "kind": Expect(
            (
                Edge("[{", "array", keep=True),
                Edge("[ ", "array", keep=True),
                Edge("[\n", "array", keep=True),
                Edge("{", "object", keep=True),
                Edge("", "name"),
            )
        ),
        "array": Expect((Edge("[", "object"),)),
        "object": JsonCall(to="next"),
        "next": Expect((Edge(",", "object"), Edge("{", "object", keep=True), Edge("]", "again")), otherwise="end"),
        "name": Capture(
            "name",
            (Edge("[CALL_ID]", "identifier"), Edge("[ARGS]", "arguments"), Edge("{", "arguments", keep=True)),
            partial=True,
        ),
        "identifier": Capture("id", (Edge("[ARGS]", "arguments"), Edge("{", "arguments", keep=True))),
        "arguments": JsonArguments(to="again"),
        "again": Expect((Edge(_OPEN, "kind"),), otherwise="end"),
    },
    thoughts=(Thought("[THINK]", "[/THINK]"),),
    ends=("</s>",),
    newlines=0,
    wire=replace(_WIRE, also=(_ARRAY,)),
    signs=(),
)
