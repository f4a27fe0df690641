"""Apriel 1.6: as 1.5, but every turn begins with the thought."""

from dataclasses import replace

from parsers.format import Thought
from parsers.formats import apriel15

FORMAT = replace(
    apriel15.FORMAT,
    key="apriel16",
    models="Apriel 1.6",
    thoughts=(Thought("<|begin_assistant|>", "[BEGIN FINAL RESPONSE]"),),
)
