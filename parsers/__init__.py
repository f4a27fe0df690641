"""Text to tool calls and back: one engine, one file of data per format, nothing but the standard library.

parser = Parser(get_format("hermes"), tools=[ToolSpec("get_weather", schema_json)])
for piece in pieces:
    for event in parser.feed(piece): ...
for event in parser.finish("stop"): ...
"""

from parsers import events
from parsers.format import Format
from parsers.formats import FORMATS
from parsers.parser import Parser, ToolSpec

__all__ = ["FORMATS", "Format", "Parser", "ToolSpec", "events", "get_format"]


def get_format(key: str) -> Format:
    """The format of this key. KeyError, naming the keys there are, if there is none."""
    try:
        return FORMATS[key]
    except KeyError:
        raise KeyError(f"no tool-call format {key!r}; there are {', '.join(FORMATS)}") from None
