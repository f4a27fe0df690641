"""Python literals as JSON. Reads JSON's literals just as well."""

import re

from parsers.quoting import escape, quote
from parsers.transducers.words import word

WORD_END = re.compile(r"[\s,:=()\[\]{}'\"<]")
_ESCAPES = {"n": "\\n", "t": "\\t", "r": "\\r", "b": "\\b", "f": "\\f", '"': '\\"', "'": "'", "\\": "\\\\", "/": "/"}
_ESCAPES |= {"\n": "", "a": "\\u0007", "v": "\\u000b", "0": "\\u0000"}
_OPENING = {"[": "]", "(": ")", "{": "}"}
# What may stand behind a string; a marker may, too.
_BEHIND = ",:)]}<"
_LENGTHS = {"x": 2, "u": 4, "U": 8}

_VALUE, _STRING, _CLOSING, _WORD, _AFTER = range(5)


class PythonLiteral:
    """One literal. `done` when its end is sure, which for words and strings is the character behind them."""

    __slots__ = (
        "_comma",
        "_gap",
        "_key",
        "_quote",
        "_raw",
        "_stack",
        "_stop",
        "_types",
        "_word",
        "done",
        "odd",
        "state",
    )

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
        # White space behind a comma, or behind a quote that may be the string's end.
        self._gap: list[str] = []
        self._raw = False
        self._stop = WORD_END
        self._word: list[str] = []

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
                hit = WORD_END.search(text, pos)
                end = len(text) if hit is None else hit.start()
                self._word.append(text[pos:end])
                if hit is None:
                    return end
                pos = self._end_word(text, end, out)
                continue
            start = pos
            while pos < len(text) and text[pos].isspace():
                pos += 1
            if pos > start:
                self._space(text[start:pos], out)
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

    def finish(self, out: list[str], rest: str, limited: bool) -> None:
        """The text is over: give out what was held back, and close what is open."""
        if self.state == _STRING:
            out.append(escape(rest))
        if self.done or limited:
            return
        if self.state == _WORD:
            self._value(word("".join(self._word), self._types if not self._stack else frozenset()), out)
        elif self.state in (_CLOSING, _STRING):
            self._close_string(out)
        if self._stack and self._stack[-1] == "}" and (self._key if self.state == _AFTER else not self._key):
            # A key without its value: there is no honest end.
            return
        while self._stack:
            self._close(out)

    def _space(self, text: str, out: list[str]) -> None:
        """White space between values stays as it is, so that what is JSON already comes out as it was written."""
        if self._comma or self.state == _CLOSING:
            self._gap.append(text)
        elif self._stack:
            out.append(text if not text.strip(" \t\r\n") else " ")

    def _token(self, text: str, pos: int, out: list[str]) -> int:
        char = text[pos]
        if self.state == _CLOSING:
            if char in "'\"":
                return self._open_string(text, pos, out, joined=True)
            if char in _BEHIND or len(self._quote) == 3:
                self._close_string(out)
            else:
                # Nothing may follow a string like this: the model has not escaped its own quotes.
                out.append(escape(self._quote + "".join(self._gap)))
                self.state = _STRING
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
        if WORD_END.match(char):
            self.odd = True
            return pos
        self.state = _WORD
        self._word = []
        return pos

    def _punctuation(self, char: str, pos: int, out: list[str]) -> int:
        if char == "," and self._stack:
            self._comma, self._key = True, self._stack[-1] == "}"
            self.state, self._gap = _VALUE, []
        elif char in ":=" and self._stack and self._stack[-1] == "}" and self._key:
            out.append(":")
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
        self._key = False
        self._ended()

    def _ended(self) -> None:
        self.state = _AFTER
        self.done = not self._stack

    def _separate(self, out: list[str]) -> None:
        if self._comma:
            self._comma = False
            out.append(",")
            self._space("".join(self._gap), out)

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
        closing, self.state = self.state == _CLOSING, _AFTER
        out.append('"')
        if closing:
            self._space("".join(self._gap), out)
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
                if self._stack and self._quote == '"':
                    # As in JSON; other strings may go on behind white space.
                    self._close_string(out)
                else:
                    self.state, self._gap = _CLOSING, []
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
