"""Apriel 1.5: a JSON array between `<tool_calls>` tags; the thought is prose up to `[BEGIN FINAL RESPONSE]`."""

from dataclasses import replace

from parsers.format import Thought
from parsers.formats import jamba

FORMAT = replace(
    jamba.FORMAT,
    key="apriel15",
    models="Apriel 1.5",
    thoughts=(Thought("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),),
    dropped=("[END FINAL RESPONSE]",),
    ends=("<|end|>",),
)
