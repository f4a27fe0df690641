"""Gemma's notation, `{key:<mark>text<mark>,n:1,o:{..},l:[..]}`, as JSON."""

import re
from collections.abc import Callable

from parsers.quoting import escape, quote
from parsers.transducers.json_value import JsonValue
from parsers.transducers.words import word

_KEY, _VALUE, _STRING, _AFTER, _WORD, _QUOTED, _NAME = range(7)
_KEY_END = re.compile(r"[:{}\[\],]")
_WORD_END = re.compile(r"[,{}\[\]<]")
_LONGEST = 1024
_LONGEST_SPACE = 64


class Braces:
    """One object, from its opening brace to behind its closing one. Strings stand between two `mark`s.

    A string that a model has put in JSON's quotes instead is read as JSON's.
    """

    failed = False
    __slots__ = ("_gap", "_mark", "_quoted", "_stack", "_started", "_state", "_top", "_types", "_word", "done", "odd")

    def __init__(self, mark: str, types: Callable[[str], frozenset[str]]) -> None:
        self._mark = mark
        self._types = types
        self._top = ""
        self._state = _VALUE
        self._stack: list[str] = []
        # Whether something stands before in the container.
        self._started = False
        self._word: list[str] = []
        self._quoted = JsonValue()
        # White space behind a key that may be the key's own.
        self._gap = ""
        self.done = False
        # The character where `run` stopped is none that can stand there; see `JsonValue`.
        self.odd = False

    def run(self, text: str, pos: int, out: list[str], final: bool = False) -> int:
        """Read on from `pos`; see the package's text."""
        end = len(text)
        self.odd = False
        while not self.done:
            if self._state == _STRING:
                pos = self._string(text, pos, out, final)
                if self._state == _STRING:
                    return pos
                continue
            if self._state == _QUOTED:
                pos = self._quoted.run(text, pos, out)
                if not self._quoted.done:
                    return pos
                self._state, self._started = _AFTER, True
                continue
            if self._state == _NAME:
                pos = self._name(text, pos, out)
                if self._state == _NAME:
                    return pos
                continue
            if self._state == _WORD:
                hit = _WORD_END.search(text, pos)
                stop = end if hit is None else hit.start()
                self._word.append(text[pos:stop])
                pos = stop
                if hit is None:
                    return pos
                self._end_word(out)
                continue
            while pos < end and text[pos].isspace():
                pos += 1
            if pos == end:
                return pos
            char = text[pos]
            if self._state == _AFTER:
                stop = self._punctuation(char, pos, out)
            elif char in "]}" and self._stack and self._state in (_KEY, _VALUE):
                self._close(out)
                stop = pos + 1
            elif char == ",":
                stop = pos + 1
            elif self._state == _KEY:
                stop = self._key(text, pos, out)
            else:
                stop = self._value(text, pos, char, out, final)
            if stop < 0 or self.odd:
                return pos
            pos = stop
        return pos

    def _separate(self, out: list[str]) -> None:
        if self._started:
            out.append(", ")
        self._started = True

    def _open(self, char: str, out: list[str]) -> None:
        self._stack.append("}" if char == "{" else "]")
        out.append(char)
        self._state = _KEY if char == "{" else _VALUE
        self._started = False

    def _close(self, out: list[str]) -> None:
        out.append(self._stack.pop())
        self._state, self._started = _AFTER, True
        self.done = not self._stack

    def _punctuation(self, char: str, pos: int, out: list[str]) -> int:
        if char in "]}":
            self._close(out)
        elif char == ",":
            self._state = _KEY if self._stack[-1] == "}" else _VALUE
        else:
            self.odd = True
            return pos
        return pos + 1

    def skip_odd(self, text: str, pos: int, out: list[str]) -> int:
        """Take the odd character at `pos` as it is, so that the client sees what the model wrote."""
        out.append(escape(text[pos]))
        return pos + 1

    def finish(self, out: list[str], rest: str, limited: bool) -> None:
        """The text is over: give out what was held back, and close what is open."""
        if self._state == _STRING:
            out.append(escape(rest))
        if limited:
            return
        if self._state == _WORD:
            self._end_word(out)
        elif self._state in (_STRING, _QUOTED):
            out.append('"')
        elif self._state == _NAME:
            return
        elif self._state == _KEY and rest.strip():
            self._separate(out)
            out.append('"' + escape(rest.strip()))
            return
        elif self._state == _VALUE and self._stack and self._stack[-1] == "}":
            # A key without its value: there is no honest end.
            return
        while self._stack:
            self._close(out)

    def _end_word(self, out: list[str]) -> None:
        types = self._types(self._top) if len(self._stack) == 1 else frozenset()
        out.append(word("".join(self._word), types))
        self._word = []
        self._state, self._started = _AFTER, True

    def _name(self, text: str, pos: int, out: list[str]) -> int:
        """A key without quotes, as it comes."""
        hit = _KEY_END.search(text, pos)
        stop = len(text) if hit is None else hit.start()
        word = self._gap + text[pos:stop]
        bare = word.rstrip()
        self._gap = word[len(bare) :][:_LONGEST_SPACE]
        out.append(escape(bare))
        if len(self._stack) == 1:
            self._top += bare
        if hit is None:
            return stop
        out.append('": ')
        self._state, self._started = _VALUE, False
        return stop + 1 if hit[0] == ":" else stop

    def _key(self, text: str, pos: int, out: list[str]) -> int:
        if text[pos].isalnum() or text[pos] == "_":
            self._separate(out)
            out.append('"')
            self._state, self._gap = _NAME, ""
            if len(self._stack) == 1:
                self._top = ""
            return pos
        # However the text is cut, the limit falls at the same place.
        hit = _KEY_END.search(text, pos, pos + _LONGEST)
        if hit is None and len(text) - pos < _LONGEST:
            return -1
        stop = pos + _LONGEST if hit is None else hit.start()
        if stop == pos:
            self.odd = True
            return pos
        key = text[pos:stop].strip().removeprefix(self._mark).removesuffix(self._mark)
        if len(key) > 1 and key[0] == key[-1] and key[0] in "'\"":
            key = key[1:-1]
        self._separate(out)
        if len(self._stack) == 1:
            self._top = key
        out.append(quote(key) + ": ")
        self._state = _VALUE
        # The value that follows is no neighbour of the key.
        self._started = False
        return stop + 1 if text[stop : stop + 1] == ":" else stop

    def _value(self, text: str, pos: int, char: str, out: list[str], final: bool) -> int:
        if text.startswith(self._mark, pos):
            self._begin(out)
            out.append('"')
            self._state = _STRING
            return pos + len(self._mark)
        if self._mark.startswith(text[pos:]) and not final:
            return -1
        if char in "{[":
            self._begin(out)
            self._open(char, out)
            return pos + 1
        if char in ":<":
            self.odd = True
            return pos
        self._begin(out)
        if char == '"':
            self._quoted, self._state = JsonValue(), _QUOTED
            return pos
        self._state = _WORD
        return pos

    def _begin(self, out: list[str]) -> None:
        if self._stack and self._stack[-1] == "]":
            self._separate(out)
        self._started = True

    def _string(self, text: str, pos: int, out: list[str], final: bool) -> int:
        end = text.find(self._mark, pos)
        if end >= 0:
            out.append(escape(text[pos:end]) + '"')
            self._state, self._started = _AFTER, True
            return end + len(self._mark)
        stop = len(text)
        at = text.find(self._mark[0], max(pos, stop - len(self._mark) + 1))
        while 0 <= at < stop and not final:
            if self._mark.startswith(text[at:]):
                stop = at
                break
            at = text.find(self._mark[0], at + 1)
        if stop > pos:
            out.append(escape(text[pos:stop]))
        return stop
