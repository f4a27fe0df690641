"""Reka Edge: Hermes' calls, closed without a line feed."""

from dataclasses import replace

from parsers.formats import hermes

FORMAT = replace(
    hermes.FORMAT,
    key="reka_edge",
    models="Reka-Edge",
    ends=("<sep>", "<|endoftext|>"),
    wire=replace(hermes.FORMAT.wire, tail="}</tool_call>"),
)
