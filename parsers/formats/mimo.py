"""MiMo-V2: as Qwen3.5, without line feeds."""

from dataclasses import replace

from parsers.format import RawValue
from parsers.formats import qwen3_5

_BASE = qwen3_5.FORMAT
_VALUE = _BASE.states["value"]
assert isinstance(_VALUE, RawValue)

FORMAT = replace(
    _BASE,
    key="mimo",
    models="MiMo-V2",
    states={**_BASE.states, "value": replace(_VALUE, newline=False)},
    wire=replace(
        _BASE.wire,
        head="<tool_call><function=",
        middle=">",
        tail="</function></tool_call>",
        separator="",
        omitted="<tool_call>",
        parameter=("<parameter=", ">", "</parameter>"),
    ),
    signs=("<tool_call><function=", "><parameter="),
)
