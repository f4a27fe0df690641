"""Granite 4: Hermes' calls; the arguments are sometimes a string that holds JSON."""

from dataclasses import replace

from parsers.formats import hermes

FORMAT = replace(hermes.FORMAT, key="granite4", models="Granite 4.0, 4.1", ends=("<|end_of_text|>",))
