"""Reads a call that is one JSON object: finds name, identifier and arguments under any of their keys, in any order."""

import json
import re
from collections.abc import Callable

from parsers.call import Call
from parsers.format import JsonCall
from parsers.transducers.json_value import JsonValue

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LONGEST = 1024
_LONGEST_SPACE = 64
# What values that are skipped may begin with; Python's words, too.
_FIRST_OF_VALUE = '"[{-+.0123456789tfnTFN'
_DESCENDS = "function"

_KEY, _VALUE, _TEXT, _SKIP, _ARGUMENTS, _NEXT = range(6)


class JsonObject:
    """One object. `run` ends with `done`, `failed` (it is no call), or at an `odd` character inside the arguments.

    `start` is called when the header is complete, and says whether it makes a call.
    """

    __slots__ = (
        "_call",
        "_depth",
        "_key",
        "_seen",
        "_spec",
        "_start",
        "_state",
        "_strange",
        "_strict",
        "_value",
        "done",
        "failed",
        "named",
    )

    def __init__(self, spec: JsonCall, call: Call, start: Callable[[], bool], strict: bool) -> None:
        self._spec = spec
        self._call = call
        self._start = start
        # Without a marker only an object with nothing but a call's keys, arguments among them, is a call.
        self._strict = strict
        self._state = -1
        self._depth = 0
        self._key = ""
        # The name has been read.
        self.named = False
        self._seen = False
        # There are keys that no call has.
        self._strange = False
        self._value: JsonValue | None = None
        self.done = False
        self.failed = False

    @property
    def in_arguments(self) -> bool:
        """Whether the text stands inside the arguments."""
        return self._state == _ARGUMENTS

    @property
    def only_named(self) -> bool:
        """Whether the name has been read, and nothing that could be the arguments."""
        return self.named and not self._strange

    @property
    def odd(self) -> bool:
        """Whether `run` stopped at a character of the arguments that JSON does not have."""
        return self._value is not None and self._value.odd

    def skip_odd(self, text: str, pos: int, out: list[str]) -> int:
        """Take the odd character at `pos` as part of the arguments."""
        assert self._value is not None
        return self._value.skip_odd(text, pos, out)

    def run(self, text: str, pos: int, out: list[str]) -> int:
        """Read on from `pos`; the JSON in `out` is the arguments."""
        end = len(text)
        while not (self.done or self.failed):
            state = self._state
            if state in (_ARGUMENTS, _SKIP):
                pos = self._pass(text, pos, out)
                if self._value is not None:
                    return pos
                continue
            while pos < end and text[pos].isspace():
                pos += 1
            if pos == end:
                return pos
            char = text[pos]
            if state in (_KEY, _TEXT):
                stop = self._string(text, pos, char)
                if stop == pos:
                    return pos
                pos = stop
            elif state == _VALUE:
                pos = self._begin_value(pos, char)
            else:
                pos = self._punctuation(pos, char)
        return pos

    def _punctuation(self, pos: int, char: str) -> int:
        state = self._state
        if (state == -1 and char == "{") or (state == _NEXT and char == ","):
            self._state = _KEY
        elif state == _NEXT and char == "}":
            self._close()
        else:
            return self._broken(pos)
        return pos + 1

    def _close(self) -> None:
        if self._depth:
            self._depth -= 1
            return
        self.done = True
        if self._seen:
            self.failed = not self.named
        elif not self.named or self._strict or self._strange or not self._start():
            # Better text than a call without the arguments that stand under some other key.
            self.failed = True

    def _broken(self, pos: int) -> int:
        if self.named and self._seen:
            self._call.warn("the call's JSON is damaged behind its arguments")
            self.done = True
        else:
            self.failed = True
        return pos

    def _string(self, text: str, pos: int, char: str) -> int:
        """A key, or the text of a name or an identifier."""
        if char == "}" and self._state == _KEY:
            self._close()
            if not self.done:
                self._state = _NEXT
            return pos + 1
        if char != '"':
            return self._broken(pos)
        # However the text is cut, the limit falls at the same place.
        found = _STRING.match(text, pos, pos + _LONGEST)
        if found is None:
            if len(text) - pos >= _LONGEST:
                self._broken(pos)
            return pos
        try:
            value = json.loads(found[0], strict=False)
        except ValueError:
            return self._broken(pos)
        end = found.end()
        if self._state == _KEY:
            # A string is a key only with its colon: what is broken begins with its quote.
            limit = end + _LONGEST_SPACE
            while end < len(text) and end < limit and text[end].isspace():
                end += 1
            if end == len(text) and end < limit:
                return pos
            if text[end : end + 1] != ":":
                return self._broken(pos)
            end += 1
            self._key = value
            self._state = _VALUE
            if self._spec.named_by_key and not self.named:
                self._name(value)
            elif self._strict and not self._seen and not self._known(value):
                self.failed = True
        else:
            if self._key in self._spec.ids:
                if not value.isprintable() or " " in value:
                    # The end of the string is missing.
                    return self._broken(pos)
                self._call.call_id = value
            else:
                self._name(value)
            self._state = _NEXT
        return end

    def _known(self, key: str) -> bool:
        spec = self._spec
        return key in spec.names or key in spec.arguments or key in spec.ids or key in ("type", "index", _DESCENDS)

    def _name(self, name: str) -> None:
        self._call.name = name
        self.named = bool(name)
        if self._seen and not self._start():
            self.failed = True

    def _begin_value(self, pos: int, char: str) -> int:
        spec, key = self._spec, self._key
        named = spec.named_by_key and key == self._call.name
        if (named or key in spec.arguments) and not self._seen:
            if self.named and not self._start():
                self.failed = True
                return pos
            self._seen = True
            self._value = JsonValue(unwrap=True)
            self._state = _ARGUMENTS
        elif char == '"' and (key in spec.ids or ((key in spec.names or key == _DESCENDS) and not self.named)):
            self._state = _TEXT
        elif char == "{" and key == _DESCENDS:
            self._depth += 1
            self._state = _KEY
            return pos + 1
        elif key in spec.names and not self.named:
            self.failed = True
        elif char not in _FIRST_OF_VALUE:
            return self._broken(pos)
        else:
            self._strange = self._strange or not self._known(key)
            self._value = JsonValue()
            self._state = _SKIP
        return pos

    def _pass(self, text: str, pos: int, out: list[str]) -> int:
        value = self._value
        assert value is not None
        pos = value.run(text, pos, out if self._state == _ARGUMENTS else [])
        if value.done:
            self._value = None
            self._state = _NEXT
        elif value.odd and self._state == _SKIP:
            self._value = None
            self._broken(pos)
        return pos

    def finish(self, out: list[str], rest: str, limited: bool) -> None:
        """The text is over: give out what the arguments held back."""
        if self._state == _ARGUMENTS and self._value is not None:
            self._value.finish(out, rest, limited)
