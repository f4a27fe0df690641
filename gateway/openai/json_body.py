"""Strict JSON bodies: the parsed value, and the verbatim text of any part of it.

Tool schemas reach the prompt, where the order of keys and the spelling of numbers matter; a parse and a dump would
change both. ``RawJson`` therefore finds the slice of the body's text in which a value stands.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

from tandem.errors import InvalidRequestError

MAX_DEPTH: Final = 200
"""Deeper nesting is refused: nodes render these values recursively."""
MAX_MARKS: Final = 300_000
"""Commas, colons and opening brackets outside strings; more are refused before anything is built of them.

The standard library's parser holds the interpreter while it runs, in a thread too: so many take it some 50 ms. An
agent's request has some thousands, and a prompt of 300,000 token ids fits.
"""

_MARKS: Final = b",:[{"
_NOT_MARKS: Final = bytes(set(range(256)) - set(_MARKS + b'"'))
_WHITESPACE: Final = re.compile(r"[ \t\n\r]*")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
# The standard library's own scanners: C functions that take a text and an index, which its stubs leave out.
_skip_string: Final[Callable[[str, int], tuple[str, int]]] = vars(json.decoder)["scanstring"]
_scan: Final[Callable[[str, int], tuple[object, int]]] = vars(json.JSONDecoder())["scan_once"]


def parse_object(body: bytes) -> tuple[dict[str, Any], RawJson]:
    """Parses a request body that must be one JSON object.

    Raises ``InvalidRequestError`` for anything else: bytes that are not UTF-8, NaN and numbers beyond the range of a
    double, half a surrogate pair, nesting deeper than ``MAX_DEPTH``, more than ``MAX_MARKS`` values and members.
    """
    if _has_too_many_marks(body):
        raise _refuse(f"it has more than {MAX_MARKS:,} commas, colons and brackets")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(f"it is not UTF-8 (byte {error.start})") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise _refuse("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _refuse(f"{error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError:
        raise _refuse("a number in it has too many digits") from None
    if not isinstance(value, dict):
        raise _refuse("it must be a JSON object")
    _check_tree(value, check_strings=_SURROGATE_ESCAPE.search(text) is not None)
    return value, RawJson(text, _blank(text, 0))


class RawJson:
    """A value inside a JSON text that is known to be valid, by its place."""

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self._start = start
        self._places: dict[str, int] | None = None

    def text(self) -> str:
        """The value as it was written."""
        return self._text[self._start : _end_of(self._text, self._start)]

    def member(self, key: str) -> RawJson | None:
        """The value under ``key``, the last one when the key comes twice; None without it or for a non-object."""
        if self._places is None:
            self._places = dict(self._members()) if self._text[self._start] == "{" else {}
        start = self._places.get(key)
        return None if start is None else RawJson(self._text, start)

    def elements(self) -> list[RawJson]:
        """The elements of an array, in order."""
        text, found = self._text, []
        at = _blank(text, self._start + 1)
        while text[at] != "]":
            found.append(RawJson(text, at))
            at = _blank(text, _end_of(text, at))
            if text[at] == ",":
                at = _blank(text, at + 1)
        return found

    def _members(self) -> Iterator[tuple[str, int]]:
        text = self._text
        at = _blank(text, self._start + 1)
        while text[at] != "}":
            name, at = _skip_string(text, at + 1)
            at = _blank(text, _blank(text, at) + 1)
            yield name, at
            at = _blank(text, _end_of(text, at))
            if text[at] == ",":
                at = _blank(text, at + 1)


def _blank(text: str, at: int) -> int:
    match = _WHITESPACE.match(text, at)
    return match.end() if match else at


def _end_of(text: str, start: int) -> int:
    return _scan(text, start)[1]


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _refuse("a number in it is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise _refuse(f"{name} is not JSON")


def _refuse(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"We could not parse the JSON body of your request: {why}.", code="invalid_json")


def _has_too_many_marks(body: bytes) -> bool:
    """Whether there are more than ``MAX_MARKS`` outside strings, by scans of the bytes that build nearly nothing.

    The count is right up to the first byte that is not JSON, and a parser goes no further. A text in a string, such as
    the source of a program, may have any number.
    """
    if sum(body.count(mark) for mark in (b",", b":", b"[", b"{")) <= MAX_MARKS:
        return False
    # Without escaped backslashes and then without escaped quotes, every quote opens or closes a string.
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NOT_MARKS)
    if bare.count(b'"') > 2 * MAX_MARKS:  # each string stands behind a mark
        return True
    return sum(map(len, bare.split(b'"')[::2])) > MAX_MARKS


def _check_tree(root: dict[str, Any], *, check_strings: bool) -> None:
    """Refuses deep nesting and, when asked, strings that UTF-8 cannot carry. Iterative, so that depth is harmless."""
    level: list[Any] = [root]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _refuse(f"it is nested more than {MAX_DEPTH} deep")
        below: list[Any] = []
        for node in level:
            values = node.values() if isinstance(node, dict) else node
            below.extend(value for value in values if isinstance(value, dict | list))
            if check_strings:
                _check_strings(values)
                if isinstance(node, dict):
                    _check_strings(node.keys())
        level = below


def _check_strings(values: Any) -> None:
    for value in values:
        if isinstance(value, str) and not _encodable(value):
            raise _refuse("a string in it has half of a surrogate pair")


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
