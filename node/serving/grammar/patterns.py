"""Regular expressions: those of JSON Schema, formats and ranges of integers, as the grammar's lexer reads them.

JSON Schema's are ECMA's and match anywhere in a text; the lexer's (those of Rust's ``regex``) match the whole of it
and know neither anchors nor look-around. What differs between dialects is read in the narrower way, so that whoever
validates the text finds that it fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from node.serving.grammar.lark import escape

ANY = "(?s:.*)"

# What both ECMA and Python take for white space, and what either of them does.
_SPACE, _ALL_SPACE = r"\t\n\x{b}\x{c}\r\x{20}", r"\s\x{1c}-\x{1f}\x{feff}"
_WORD = "A-Za-z0-9_"
_DAY = "(?:0[1-9]|1[0-9]|2[0-8])"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    "(?:(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-"
    f"(?:(?:0[1-9]|1[0-2])-{_DAY}|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_WORD16 = "[0-9A-Fa-f]{1,4}"
_SHORT = (
    f"(?:{_WORD16}(?::{_WORD16}){{0,{left}}})?::(?:{_WORD16}(?::{_WORD16}){{0,{5 - left}}})?" for left in range(6)
)
_URI_CHAR = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@\x{2f}]|%[0-9A-Fa-f]{2})"
_URI_REST = rf"{_URI_CHAR}*(?:\?(?:{_URI_CHAR}|\?)*)?(?:#(?:{_URI_CHAR}|\?)*)?"
_SPAN = "[0-9]+"
_SPAN_TIME = f"T(?:{_SPAN}H(?:{_SPAN}M(?:{_SPAN}S)?)?|{_SPAN}M(?:{_SPAN}S)?|{_SPAN}S)"
_SPAN_DATE = f"(?:{_SPAN}Y(?:{_SPAN}M(?:{_SPAN}D)?)?|{_SPAN}M(?:{_SPAN}D)?|{_SPAN}D)"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": f"P(?:{_SPAN_DATE}(?:{_SPAN_TIME})?|{_SPAN_TIME}|{_SPAN}W)",
    "email": rf"[A-Za-z0-9_+\-]+(?:\.[A-Za-z0-9_+\-]+)*@{_LABEL}(?:\.{_LABEL})*",
    "hostname": rf"{_LABEL}(?:\.{_LABEL})*",
    "ipv4": _IPV4,
    "ipv6": f"(?:{_WORD16}(?::{_WORD16}){{7}}|{'|'.join(_SHORT)})",
    "uuid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "uri": rf"[A-Za-z][A-Za-z0-9+\-.]*:{_URI_REST}",
    "uri-reference": rf"(?:[A-Za-z][A-Za-z0-9+\-.]*:)?(?:\x{{2f}}{_URI_REST})?",
}


class PatternError(ValueError):
    """The pattern says what the lexer cannot check."""


def search(pattern: str) -> str:
    """The expression for all texts in which the pattern is found. Raises PatternError."""
    return _Reader(pattern).read(ANY)


def whole(pattern: str) -> str:
    """The expression for all texts that the pattern matches from end to end. Raises PatternError."""
    return _Reader(pattern).read("")


class _Reader:
    """Reads one pattern, from left to right."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._pos = 0

    def read(self, around: str) -> str:
        """The pattern, with `around` where it is not anchored."""
        options = []
        while True:
            starts, body, ends = self._sequence(top=True)
            options.append(("" if starts else around) + body + ("" if ends else around))
            if not self._take("|"):
                break
        if self._pos < len(self._text):
            raise PatternError("unbalanced brackets")
        return options[0] if len(options) == 1 else "(?:" + "|".join(options) + ")"

    def _peek(self) -> str:
        return self._text[self._pos : self._pos + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise PatternError("the pattern breaks off")
        self._pos += 1
        return char

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._pos)
        if found:
            self._pos += len(text)
        return found

    def _sequence(self, top: bool = False) -> tuple[bool, str, bool]:
        starts = ends = False
        parts: list[str] = []
        while (char := self._peek()) and char not in "|)":
            if char == "^" and top and not parts:
                starts, self._pos = True, self._pos + 1
            elif char == "$" and top and self._text[self._pos + 1 : self._pos + 2] in ("", "|"):
                ends, self._pos = True, self._pos + 1
            elif char in "^$":
                raise PatternError("an anchor in the middle")
            else:
                parts.append(self._atom() + self._quantifier())
        return starts, "".join(parts), ends

    def _atom(self) -> str:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == ".":
            return r"[^\n\r\x{2028}\x{2029}]"
        if char == "\\":
            return self._escape()
        if char in "*+?":
            raise PatternError("nothing to repeat")
        return escape(char)

    def _group(self) -> str:
        if self._take("?") and not self._take(":"):
            if not (self._take("<") or self._take("P<")) or self._peek() in ("=", "!"):
                raise PatternError("look-around, flags and the like")
            while self._next() != ">":
                pass
        options = [self._sequence()[1]]
        while self._take("|"):
            options.append(self._sequence()[1])
        if self._next() != ")":
            raise PatternError("unbalanced brackets")
        return "(?:" + "|".join(options) + ")"

    def _quantifier(self) -> str:
        char = self._peek()
        if char and char in "*+?":
            self._pos += 1
            found = char
        elif char == "{":
            end = self._text.find("}", self._pos)
            low, comma, high = self._text[self._pos + 1 : max(end, 0)].partition(",")
            if not low.isdigit() or not low.isascii() or (high and not (high.isdigit() and high.isascii())):
                return ""
            if high and int(low) > int(high):
                raise PatternError("a repetition that ends before it begins")
            self._pos = end + 1
            found = "{" + low + comma + high + "}"
        else:
            return ""
        # Whether a repetition is greedy or not matches the same texts.
        if not self._take("?") and self._peek() in ("*", "+"):
            raise PatternError("a repetition of a repetition")
        return found

    def _escape(self) -> str:
        char = self._next()
        if char in "dws":
            return f"[{_members(char, False)}]"
        if char in "DWS":
            return _members(char, False)
        if char == "p" or char == "P":
            return self._property(char)
        return escape(self._character(char))

    def _property(self, char: str) -> str:
        end = self._text.find("}", self._pos)
        if self._peek() != "{" or end < 0 or not self._text[self._pos + 1 : end].replace("_", "a").isalnum():
            raise PatternError("a property without a name")
        taken = self._text[self._pos : end + 1]
        self._pos = end + 1
        return f"\\{char}{taken}"

    def _character(self, char: str) -> str:
        """The character that stands behind a backslash."""
        plain = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}.get(char)
        if plain is not None:
            return plain
        if char == "x":
            return self._code(2)
        if char == "u":
            if self._take("{"):
                end = self._text.find("}", self._pos)
                code = self._code(max(end - self._pos, 1))
                self._pos += 1
                return code
            return self._code(4)
        if char.isalnum():
            raise PatternError("a back-reference, a word boundary or an escape of another dialect")
        return char

    def _code(self, length: int) -> str:
        digits = self._text[self._pos : self._pos + length]
        self._pos += length
        try:
            char = chr(int(digits, 16))
        except (ValueError, OverflowError):
            raise PatternError("an escape without its digits") from None
        if "\ud800" <= char <= "\udfff":
            raise PatternError("half a character")
        return char

    def _class(self) -> str:
        negated = self._take("^")
        parts: list[str] = []
        while not self._take("]"):
            low, single = self._member(negated)
            behind = self._text[self._pos + 1 : self._pos + 2]
            if single and self._peek() == "-" and behind not in ("]", ""):
                self._pos += 1
                high, also = self._member(negated)
                if not also:
                    low += r"\-" + high
                elif ord(single) > ord(also):
                    raise PatternError("a range that ends before it begins")
                else:
                    low += "-" + high
            parts.append(low)
        if not parts:
            if negated:
                return "(?s:.)"
            raise PatternError("a class of no characters")
        return "[" + ("^" if negated else "") + "".join(parts) + "]"

    def _member(self, negated: bool) -> tuple[str, str]:
        """A member of a class as text, and the character that it is if it is one."""
        char = self._next()
        if char == "\\":
            char = self._next()
            if char in "dwsDWS":
                return _members(char, negated), ""
            if char in "pP":
                return self._property(char), ""
            char = "\b" if char == "b" else self._character(char)
        return f"\\x{{{ord(char):x}}}", char


def _members(char: str, negated: bool) -> str:
    """What a class escape stands for: the narrow reading, or inside a negated class the wide one."""
    narrow = {"d": "0-9", "w": _WORD, "s": _SPACE}
    wide = {"d": r"\d", "w": r"\w", "s": _ALL_SPACE}
    if char in narrow:
        return (wide if negated else narrow)[char]
    return f"[^{(narrow if negated else wide)[char.lower()]}]"


def integers(low: int | None, high: int | None) -> str:
    """The decimal digits of the integers from `low` to `high`, both included; None: without bound."""
    options = []
    if low is None or low < 0:
        nearest = 1 if high is None or high >= 0 else -high
        options.append("-" + _naturals(nearest, None if low is None else -low))
    if high is None or high >= 0:
        options.append(_naturals(max(low or 0, 0), high))
    return "(?:" + "|".join(options) + ")"


def _naturals(low: int, high: int | None) -> str:
    first = str(low)
    if high is None:
        longer = f"[1-9][0-9]{{{len(first)},}}"
        return f"(?:{_between(first, '9' * len(first))}|{longer})"
    options = []
    for length in range(len(first), len(str(high)) + 1):
        least = first if length == len(first) else "1" + "0" * (length - 1)
        most = str(high) if length == len(str(high)) else "9" * length
        options.append(_between(least, most))
    return "(?:" + "|".join(options) + ")"


def _between(low: str, high: str) -> str:
    """Digits of one length, from `low` to `high`."""
    if not low:
        return ""
    rest = len(low) - 1
    if low[0] == high[0]:
        return low[0] + _between(low[1:], high[1:])
    options = []
    first, last = int(low[0]), int(high[0])
    if low[1:].strip("0"):
        options.append(low[0] + _between(low[1:], "9" * rest))
        first += 1
    if high[1:].strip("9"):
        options.append(high[0] + _between("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        options.append(f"[{first}-{last}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return "(?:" + "|".join(options) + ")"


def sized(one: str, low: int, high: int | None) -> str:
    """`low` to `high` times the expression; None: without bound."""
    return f"{one}{{{low},{'' if high is None else high}}}"


def unlike(texts: Sequence[str]) -> str:
    """The pattern, as JSON Schema has them, of texts that are none of these; of long ones only the beginning counts."""

    def behind(words: Sequence[str], depth: int) -> str:
        nexts = sorted({word[0] for word in words if word})
        options = [] if "" in words else [""]
        if depth < _LONGEST_UNLIKE:
            options.append(f"[^{''.join(map(_in_pattern, nexts))}][^]*")
            options += [_in_pattern(c) + behind([w[1:] for w in words if w[:1] == c], depth + 1) for c in nexts]
        return f"(?:{'|'.join(options)})"

    return f"^{behind(texts, 0)}$"


_LONGEST_UNLIKE = 48


def _in_pattern(char: str) -> str:
    return f"\\u{{{ord(char):x}}}"


def either(texts: Iterable[str]) -> str:
    """One of the texts."""
    return "(?:" + "|".join(map(escape, texts)) + ")"


@lru_cache(maxsize=256)
def without(ends: tuple[str, ...], cuts: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What text must match that holds none of `ends`, nor one of `cuts` right before other markup or its own end.

    Markup is whatever begins with the cut's first character; white space does not count. The expressions hold no
    complements, which beside a length cost the lexer seconds.
    """
    # By the character that all of them begin with: what stands behind it, and whether that may never be there.
    groups: dict[str, dict[str, bool]] = {}
    found = []
    for marker, absolute in (*((one, True) for one in ends), *((one, False) for one in cuts)):
        first, word = _recognised(marker)
        if len(word) + 1 < len(marker) and len(word) < _SHORTEST:
            # Of one character again and again.
            char, most = _in_class(first), len(marker) - 1
            found.append(f"(?:[^{char}]|{char}{{1,{most}}}[^{char}])*{char}{{0,{most}}}")
            continue
        words = groups.setdefault(first, {})
        words[word] = words.get(word, False) or absolute or first + word != marker
    for first, words in groups.items():
        char = _in_class(first)
        found.append(f"[^{char}]*(?:{escape(first)}{_segment('', words, char)})*")
    return tuple(found)


def _recognised(marker: str) -> tuple[str, str]:
    """A character of the marker and what follows it up to where it comes again: enough to know the marker by."""
    parts = [(marker[at], marker[at + 1 :].partition(marker[at])[0]) for at in range(len(marker))]
    enough = min(_SHORTEST, len(marker) - 1)
    return next((part for part in parts if len(part[1]) >= enough), parts[0])


_SHORTEST = 4


def _segment(begun: str, words: Mapping[str, bool], first: str) -> str:
    """What may follow `begun` up to where `first` stands again, such that none of the words is there.

    A word that is not absolute may be there if more than white space follows it.
    """
    if begun in words:
        return rf"[{_ALL_SPACE}]*[^{_ALL_SPACE}{first}][^{first}]*"
    nexts = sorted({word[len(begun)] for word in words if word.startswith(begun)})
    options = [f"[^{first}{''.join(map(_in_class, nexts))}][^{first}]*"]
    for char in nexts:
        if not words.get(begun + char):
            options.append(escape(char) + _segment(begun + char, words, first))
    return f"(?:{'|'.join(options)})?"


def _in_class(char: str) -> str:
    return f"\\x{{{ord(char):x}}}"
