"""One JSON value, passed through as it is written; a string that holds an object is unwrapped."""

import re

from parsers.quoting import quote

_IN_STRING = re.compile(r'["\\]')
# Everything that cannot stand between the strings of a JSON container, and what opens, closes or quotes.
_STRUCTURE = re.compile(r'["\[\]{}]|[^\s\d,:.+\-eEtrufalsn]')
_SCALAR_END = re.compile(r"[\s,}\]<]")
_PAIRS = {"{": "}", "[": "]"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}

_START, _BODY, _SCALAR, _WRAPPED, _UNWRAPPED = range(5)


class JsonValue:
    """Passes one value through and finds its end. `odd` is set where a character cannot belong to JSON.

    At an odd character `run` stops with `odd` true; the caller looks whether markup begins there, and calls
    `skip_odd` to take the character as part of the value.
    """

    failed = False
    __slots__ = ("_escaped", "_held", "_mode", "_open", "_scalars", "_stack", "done", "in_string", "odd", "unwrap")

    def __init__(self, unwrap: bool = False) -> None:
        self.unwrap = unwrap
        self.done = False
        self.odd = False
        self.in_string = False
        self._mode = _START
        # The brackets that must follow, and how many there are of each.
        self._stack: list[str] = []
        self._open = {"}": 0, "]": 0}
        # A backslash has been passed through, so that the next character is no quote.
        self._escaped = False
        self._held = ""
        self._scalars: list[str] = []

    def run(self, text: str, pos: int, out: list[str]) -> int:
        """Read on from `pos`; see the package's text."""
        self.odd = False
        if self._mode == _BODY:
            return self._body(text, pos, out)
        if self._mode == _SCALAR:
            return self._scalar(text, pos, out)
        if self._mode == _WRAPPED or self._mode == _UNWRAPPED:
            return self._wrapped(text, pos, out)
        end = len(text)
        while pos < end and text[pos].isspace():
            pos += 1
        if pos == end:
            return pos
        char = text[pos]
        if char in "{[":
            self._mode = _BODY
            return self._body(text, pos, out)
        if char == '"':
            if self.unwrap:
                self._mode = _WRAPPED
                return self._wrapped(text, pos + 1, out)
            self._mode = _BODY
            return self._body(text, pos, out)
        self._mode = _SCALAR
        return self._scalar(text, pos, out)

    def skip_odd(self, text: str, pos: int, out: list[str]) -> int:
        """Take the odd character at `pos` as part of the value."""
        out.append(text[pos])
        return pos + 1

    def _body(self, text: str, pos: int, out: list[str]) -> int:
        stack = self._stack
        start = pos
        end = len(text)
        if self._escaped and pos < end:
            self._escaped = False
            pos += 1
        while pos < end:
            if self.in_string:
                hit = _IN_STRING.search(text, pos)
                if hit is None:
                    pos = end
                    break
                pos = hit.start()
                if text[pos] == "\\":
                    self._escaped = pos + 1 == end
                    pos += 1 if self._escaped else 2
                    continue
                self.in_string = False
                pos += 1
            else:
                hit = _STRUCTURE.search(text, pos)
                if hit is None:
                    pos = end
                    break
                pos = hit.start()
                char = text[pos]
                if char == '"':
                    self.in_string = True
                    pos += 1
                    continue
                if char in _PAIRS:
                    stack.append(_PAIRS[char])
                    self._open[_PAIRS[char]] += 1
                    pos += 1
                    continue
                if char != "}" and char != "]":
                    self.odd = True
                    break
                # Whatever is left open inside is closed, too; a bracket that was not opened counts for nothing.
                while self._open[char]:
                    closed = stack.pop()
                    self._open[closed] -= 1
                    if closed == char:
                        break
                pos += 1
            if not stack:
                self.done = True
                break
        if pos > start:
            out.append(text[start:pos])
        return pos

    def _scalar(self, text: str, pos: int, out: list[str]) -> int:
        hit = _SCALAR_END.search(text, pos)
        end = len(text) if hit is None else hit.start()
        self._scalars.append(text[pos:end])
        if hit is not None:
            self.finish(out)
        return end

    def _wrapped(self, text: str, pos: int, out: list[str]) -> int:
        end = len(text)
        parts: list[str] = []
        while pos < end:
            hit = _IN_STRING.search(text, pos)
            stop = end if hit is None else hit.start()
            if stop > pos:
                parts.append(text[pos:stop])
                pos = stop
                continue
            if text[pos] == '"':
                self.done = True
                pos += 1
                break
            if pos + 1 == end:
                break
            escape = text[pos + 1]
            if escape == "u":
                if pos + 6 > end:
                    break
                digits = text[pos + 2 : pos + 6]
                try:
                    code = int(digits, 16)
                except ValueError:
                    code = 0x80
                # Beyond ASCII it can only stand in an inner string, where the escape itself is as good.
                parts.append(chr(code) if code < 0x80 else text[pos : pos + 6])
                pos += 6
            else:
                parts.append(_ESCAPES.get(escape, "\\" + escape))
                pos += 2
        plain = "".join(parts)
        if self._mode == _UNWRAPPED:
            if plain:
                out.append(plain)
            return pos
        self._held += plain
        bare = self._held.strip()
        if bare[:1] == "{":
            self._mode = _UNWRAPPED
            out.append(self._held)
            self._held = ""
        elif self.done:
            self._finish_wrapped(bare, out)
        return pos

    def _finish_wrapped(self, bare: str, out: list[str]) -> None:
        out.append("{}" if bare in ("", "null", "None") else quote(self._held))
        self._held = ""

    def finish(self, out: list[str], rest: str = "", limited: bool = False) -> None:
        """The text is over: give out what was held back."""
        if self.done:
            return
        if rest and self._mode == _UNWRAPPED:
            out.append(rest)
        if limited and self._mode != _UNWRAPPED:
            out += self._scalars
        elif self._mode == _SCALAR:
            held = "".join(self._scalars)
            out.append("{}" if self.unwrap and held in ("null", "None") else held)
            self.done = True
        elif self._mode == _WRAPPED and self._held:
            self._finish_wrapped("\0", out)
