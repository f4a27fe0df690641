"""Whether the answer so far stands inside a string of JSON that it writes."""

import re
from typing import Final

_OPEN: Final = re.compile(r"[\[{]")
_NO_SPACE: Final = re.compile(r"\S")
_STRING_ENDS: Final = re.compile(r'["\\\n]')
# What is neither white space, a separator, nor part of a number, of true, false or null.
_STRUCTURE: Final = re.compile(r"[^\s:,.0-9+\-truefalsnE]")

_TEXT, _OPENED, _STRING, _ESCAPE, _BETWEEN = range(5)


class JsonStrings:
    """Follows the answer; `add` costs O(1) per character.

    JSON begins with a bracket that a quotation mark or another bracket follows, and is over with the last bracket, at a
    line feed inside a string, or at what is none.
    """

    __slots__ = ("_depth", "_state")

    def __init__(self) -> None:
        self._state = _TEXT
        self._depth = 0

    def inside(self) -> bool:
        """Whether text written here would be part of a string."""
        return self._state in (_STRING, _ESCAPE)

    def add(self, text: str) -> None:
        """Take the next piece of the answer."""
        pos, end = 0, len(text)
        while pos < end:
            if self._state == _TEXT:
                found = _OPEN.search(text, pos)
                if found is None:
                    return
                self._state, self._depth, pos = _OPENED, 1, found.end()
            elif self._state == _OPENED:
                pos = self._opened(text, pos)
            elif self._state == _STRING:
                pos = self._string(text, pos)
            elif self._state == _ESCAPE:
                self._state, pos = _STRING, pos + 1
            else:
                pos = self._between(text, pos)

    def _opened(self, text: str, pos: int) -> int:
        """Behind a bracket, up to what tells whether it is one of JSON."""
        found = _NO_SPACE.search(text, pos)
        if found is None:
            return len(text)
        if found[0] == '"':
            self._state = _STRING
        elif found[0] in "[{":
            self._depth += 1
        else:
            self._state = _TEXT
        return found.end()

    def _string(self, text: str, pos: int) -> int:
        found = _STRING_ENDS.search(text, pos)
        if found is None:
            return len(text)
        self._state = {'"': _BETWEEN, "\\": _ESCAPE, "\n": _TEXT}[found[0]]
        return found.end()

    def _between(self, text: str, pos: int) -> int:
        """Behind a string."""
        found = _STRUCTURE.search(text, pos)
        if found is None:
            return len(text)
        if found[0] == '"':
            self._state = _STRING
        elif found[0] in "[{":
            self._depth += 1
        elif found[0] in "]}" and self._depth > 1:
            self._depth -= 1
        else:
            self._state = _TEXT
        return found.end()
