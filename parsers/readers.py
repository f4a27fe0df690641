"""What reads the text that a state hands over."""

from collections.abc import Callable
from typing import Any

from parsers.call import Call
from parsers.format import (
    BraceArguments,
    Capture,
    ElementArguments,
    Expect,
    Format,
    Header,
    JsonArguments,
    JsonCall,
    PythonArguments,
    State,
)
from parsers.json_object import JsonObject
from parsers.raw_value import RawValueReader
from parsers.tables import Tables
from parsers.transducers.braces import Braces
from parsers.transducers.elements import Elements
from parsers.transducers.json_value import JsonValue
from parsers.transducers.keywords import PythonArguments as PythonReader


def reader_of(
    name: str, spec: Format, tables: Tables, call: Call, kind: str, start: Callable[[], bool], strict: bool
) -> Any:
    """The reader of the state of this name; None if the state reads its text itself.

    `kind`: how the markup types the value that follows. `start`, `strict`: see `JsonObject`.
    """
    state: State = spec.states[name]
    if isinstance(state, (Expect, Capture, Header)):
        return None
    if isinstance(state, JsonCall):
        return JsonObject(state, call, start, strict)
    if isinstance(state, JsonArguments):
        return JsonValue(unwrap=True)
    if isinstance(state, PythonArguments):
        return PythonReader(call.types_of, call.names())
    if isinstance(state, BraceArguments):
        return Braces(state.mark, call.types_of)
    if isinstance(state, ElementArguments):
        return Elements(state.mark, state.close, call.types)
    return RawValueReader(spec, tables, state, tables.edges[name], call, kind)
