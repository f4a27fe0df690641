"""LongCat-Flash where it writes GLM's pairs."""

from dataclasses import replace

from parsers.format import Wire
from parsers.formats import longcat

FORMAT = replace(
    longcat.FORMAT,
    key="longcat_xml",
    wire=Wire(
        head="<longcat_tool_call>",
        middle="\n",
        tail="</longcat_tool_call>",
        style="parameters",
        parameter=("<longcat_arg_key>", "</longcat_arg_key>\n<longcat_arg_value>", "</longcat_arg_value>\n"),
        trigger="<longcat_tool_call>",
    ),
    signs=("<longcat_arg_key>",),
)
