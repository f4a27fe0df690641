"""MiniMax-M1: JSON objects on lines of their own between `<tool_calls>` tags."""

from dataclasses import replace

from parsers.format import THINK, Wire
from parsers.formats import jamba

FORMAT = replace(
    jamba.FORMAT,
    key="minimax_m1",
    models="MiniMax-M1",
    thoughts=(THINK,),
    ends=("<end_of_sentence>",),
    wire=Wire(
        head='{"name": "',
        middle='", "arguments": ',
        tail="}\n",
        opening="<tool_calls>\n",
        closing="</tool_calls>",
        trigger="<tool_calls>",
        result="tool result: {result}",
    ),
    signs=("<tool_calls>\n{",),
)
