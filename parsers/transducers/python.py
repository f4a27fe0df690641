"""Python literals, and the keyword arguments of a Python call, as JSON. Reads JSON's literals just as well."""

import re
from collections.abc import Callable, Sequence

from parsers.quoting import escape, quote
from parsers.transducers.words import word

_WORD_END = re.compile(r"[\s,:=()\[\]{}'\"<]")
_ESCAPES = {"n": "\\n", "t": "\\t", "r": "\\r", "b": "\\b", "f": "\\f", '"': '\\"', "'": "'", "\\": "\\\\", "/": "/"}
_ESCAPES |= {"\n": "", "a": "\\u0007", "v": "\\u000b", "0": "\\u0000"}
_OPENING = {"[": "]", "(": ")", "{": "}"}
_LENGTHS = {"x": 2, "u": 4, "U": 8}

_LONGEST = 256

_VALUE, _STRING, _CLOSING, _WORD, _AFTER = range(5)


class PythonLiteral:
    """One literal. `done` when its end is sure, which for words and strings is the character behind them."""

    __slots__ = ("_comma", "_key", "_quote", "_raw", "_stack", "_stop", "_types", "_word", "done", "odd", "state")

    def __init__(self, types: frozenset[str] = frozenset()) -> None:
        self._types = types
        self.state = _VALUE
        self.done = False
        # The character where `run` stopped is none that a literal has; see `JsonValue`.
        self.odd = False
        self._stack: list[str] = []
        # Inside an object: whether a key is next.
        self._key = False
        self._comma = False
        self._quote = ""
        self._raw = False
        self._stop = _WORD_END
        self._word: list[str] = []

    @property
    def in_string(self) -> bool:
        """Whether the text stands inside a string."""
        return self.state == _STRING

    def run(self, text: str, pos: int, out: list[str]) -> int:
        """Read on from `pos`; see the package's text."""
        self.odd = False
        while not self.done:
            if self.state == _STRING:
                stop = self._string(text, pos, out)
                if self.state == _STRING:
                    return stop
                pos = stop
                continue
            if self.state == _WORD:
                hit = _WORD_END.search(text, pos)
                end = len(text) if hit is None else hit.start()
                self._word.append(text[pos:end])
                if hit is None:
                    return end
                pos = self._end_word(text, end, out)
                continue
            while pos < len(text) and text[pos].isspace():
                pos += 1
            if pos == len(text):
                return pos
            stop = self._token(text, pos, out)
            if stop < 0 or self.odd:
                return pos
            pos = stop
        return pos

    def skip_odd(self, text: str, pos: int, out: list[str]) -> int:
        """Take the odd character at `pos` as it is, so that the client sees what the model wrote."""
        out.append(escape(text[pos]))
        return pos + 1

    def finish(self, out: list[str]) -> None:
        """The text is over: give out what was held back."""
        if self.state == _WORD:
            self._value(word("".join(self._word), self._types if not self._stack else frozenset()), out)
        elif self.state == _CLOSING and not self.done:
            self._close_string(out)

    def _token(self, text: str, pos: int, out: list[str]) -> int:
        char = text[pos]
        if self.state == _CLOSING:
            if char in "'\"":
                return self._open_string(text, pos, out, joined=True)
            self._close_string(out)
            return pos
        if self.state == _AFTER:
            return self._punctuation(char, pos, out)
        if char in "'\"":
            return self._open_string(text, pos, out)
        if char in _OPENING:
            self._separate(out)
            self._stack.append(_OPENING[char])
            out.append("{" if char == "{" else "[")
            self._key, self._comma = char == "{", False
            return pos + 1
        if self._stack and char == self._stack[-1]:
            self._comma = False
            self._close(out)
            return pos + 1
        if char == ",":
            return pos + 1
        if _WORD_END.match(char):
            self.odd = True
            return pos
        self.state = _WORD
        self._word = []
        return pos

    def _punctuation(self, char: str, pos: int, out: list[str]) -> int:
        if char == "," and self._stack:
            self._comma, self._key = True, self._stack[-1] == "}"
            self.state = _VALUE
        elif char in ":=" and self._stack and self._stack[-1] == "}" and self._key:
            out.append(": ")
            self._key = False
            self.state = _VALUE
        elif self._stack and char == self._stack[-1]:
            self._close(out)
        else:
            self.odd = True
            return pos
        return pos + 1

    def _close(self, out: list[str]) -> None:
        out.append("}" if self._stack.pop() == "}" else "]")
        self._ended()

    def _ended(self) -> None:
        self.state = _AFTER
        self.done = not self._stack

    def _separate(self, out: list[str]) -> None:
        if self._comma:
            out.append(", ")
            self._comma = False

    def _value(self, value: str, out: list[str]) -> None:
        self._separate(out)
        out.append(quote(value) if self._key and value[:1] != '"' else value)
        self._ended()

    def _end_word(self, text: str, pos: int, out: list[str]) -> int:
        written = "".join(self._word)
        if text[pos] in "'\"" and written.lower() in ("r", "b", "f", "u", "rb", "br"):
            self._raw = "r" in written.lower()
            self.state = _VALUE
            return pos
        self._value(word(written, self._types if not self._stack else frozenset()), out)
        return pos

    def _open_string(self, text: str, pos: int, out: list[str], joined: bool = False) -> int:
        char = text[pos]
        if text[pos:] in (char, char * 2):
            # Too short to tell '' from '''.
            return -1
        self._quote = char * 3 if text.startswith(char * 3, pos) else char
        if not joined:
            self._separate(out)
            out.append('"')
        self._stop = re.compile("[\\\\" + char + "]")
        self.state = _STRING
        return pos + len(self._quote)

    def _close_string(self, out: list[str]) -> None:
        out.append('"')
        self._raw = False
        self._ended()

    def _string(self, text: str, pos: int, out: list[str]) -> int:
        end = len(text)
        while pos < end:
            hit = self._stop.search(text, pos)
            stop = end if hit is None else hit.start()
            if stop > pos:
                out.append(escape(text[pos:stop]))
                pos = stop
                continue
            if text[pos] != "\\":
                if len(self._quote) == 3 and not text.startswith(self._quote, pos):
                    if end - pos < 3:
                        return pos
                    out.append(escape(text[pos]))
                    pos += 1
                    continue
                self.state = _CLOSING
                return pos + len(self._quote)
            taken = self._escape(text, pos, out)
            if taken == pos:
                return pos
            pos = taken
        return pos

    def _escape(self, text: str, pos: int, out: list[str]) -> int:
        if pos + 1 == len(text):
            return pos
        char = text[pos + 1]
        if self._raw:
            out.append("\\\\" + escape(char))
            return pos + 2
        length = _LENGTHS.get(char)
        if length is None:
            known = _ESCAPES.get(char)
            out.append("\\\\" + escape(char) if known is None else known)
            return pos + 2
        digits = text[pos + 2 : pos + 2 + length]
        if len(digits) < length:
            return pos
        try:
            code = int(digits, 16)
            out.append("\\u" + digits.zfill(4) if code < 0x10000 else chr(code))
        except (ValueError, OverflowError):
            out.append("\\\\" + char)
            return pos + 2
        return pos + 2 + length


class PythonArguments:
    """`a=1, b="x")` from behind the opening bracket to behind the closing one, as the members of a JSON object.

    Arguments without a name get those of the tool's parameters in their order.
    """

    failed = False
    __slots__ = ("_count", "_names", "_types", "done", "value")

    def __init__(self, types: Callable[[str], frozenset[str]], names: Sequence[str]) -> None:
        self._types = types
        self._names = names
        self._count = 0
        self.value: PythonLiteral | None = None
        self.done = False

    @property
    def odd(self) -> bool:
        """Whether `run` stopped at a character that no literal has."""
        return self.value is not None and self.value.odd

    def skip_odd(self, text: str, pos: int, out: list[str]) -> int:
        """Take the odd character at `pos` as it is."""
        assert self.value is not None
        return self.value.skip_odd(text, pos, out)

    @property
    def in_string(self) -> bool:
        """Whether the text stands inside a string."""
        return self.value is not None and self.value.in_string

    def run(self, text: str, pos: int, out: list[str]) -> int:
        """Read on from `pos`; see the package's text."""
        end = len(text)
        while not self.done:
            if self.value is not None:
                pos = self.value.run(text, pos, out)
                if not self.value.done:
                    return pos
                self.value = None
                self._count += 1
            while pos < end and (text[pos].isspace() or text[pos] == ","):
                pos += 1
            if pos == end:
                return pos
            if text[pos] == ")":
                self._close(out)
                return pos + 1
            # However the text is cut, the limits fall at the same places.
            hit = _WORD_END.search(text, pos, pos + _LONGEST)
            if hit is None and end - pos < _LONGEST:
                return pos
            stop = pos + _LONGEST if hit is None else hit.start()
            behind = stop
            while behind < end and behind < stop + _LONGEST and text[behind].isspace():
                behind += 1
            if behind == end and behind < stop + _LONGEST:
                return pos
            named = stop > pos and text[behind : behind + 1] == "="
            key = text[pos:stop] if named else self._names[self._count] if self._count < len(self._names) else ""
            out.append(("{" if not self._count else ", ") + quote(key or f"argument{self._count + 1}") + ": ")
            self.value = PythonLiteral(self._types(key))
            if named:
                pos = behind + 1
        return pos

    def _close(self, out: list[str]) -> None:
        out.append("}" if self._count else "{}")
        self.done = True

    def finish(self, out: list[str]) -> None:
        """The text is over."""
        if self.value is not None:
            self.value.finish(out)
