"""Grammars as text, in llguidance's dialect of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from parsers.quoting import quote

# JSON as models write it: one space behind commas and colons, and no other.
_CANONICAL = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_PLAIN = re.compile(r"[A-Za-z0-9 _,:;'\"<>=@%!\u00a1-\u2027\u202a-\ud7ff\ue000-\U0010ffff]")


class Lark:
    """Collects rules. Whatever is asked for twice is written once.

    Args:
        markers: text and id of the tokens that stand apart from all text. llguidance never matches their bytes, so
            where a text holds one it is written by its id.
    """

    def __init__(self, markers: Mapping[str, int]) -> None:
        self._markers = markers
        ordered = sorted((marker for marker in markers if marker), key=len, reverse=True)
        self._marker = re.compile("|".join(map(re.escape, ordered)) if ordered else r"(?!)")
        self._names: dict[str, str] = {}
        self._bodies: dict[str, str] = {}

    def text(self, text: str) -> str:
        """The expression for exactly this text; empty for none."""
        first, rest = self.split(text)
        return join(literal(first), rest)

    def split(self, text: str) -> tuple[str, str]:
        """The text up to its first marker, and the expression for the rest."""
        hit = self._marker.search(text)
        if hit is None:
            return text, ""
        return text[: hit.start()], join(f"<[{self._markers[hit[0]]}]>", self.text(text[hit.end() :]))

    def rsplit(self, text: str) -> tuple[str, str]:
        """The expression for the text up to and with its last marker, and the text behind it."""
        behind = 0
        for hit in self._marker.finditer(text):
            behind = hit.end()
        return self.text(text[:behind]), text[behind:]

    def markers_in(self, text: str) -> list[str]:
        """The markers that stand in a text."""
        return [hit[0] for hit in self._marker.finditer(text)]

    def reserve(self, kind: str = "r") -> str:
        """A name to be defined later, for what refers to itself."""
        name = f"{kind}{len(self._bodies)}"
        self._bodies[name] = ""
        return name

    def define(self, name: str, body: str) -> None:
        """Say what a reserved name stands for."""
        self._bodies[name] = body

    def rule(self, body: str) -> str:
        """The name of a rule with this body."""
        return self._named(body, "r")

    def terminal(self, body: str) -> str:
        """The name of a terminal with this body: one lexeme, in which regular expressions can be combined."""
        return self._named(body, "T")

    def json(self, schema: Mapping[str, Any]) -> str:
        """The name of a rule for JSON values of a schema, written canonically."""
        return self.rule("%json " + json.dumps({**schema, "x-guidance": _CANONICAL}))

    def _named(self, body: str, kind: str) -> str:
        name = self._names.get(body)
        if name is None:
            name = self._names[body] = self.reserve(kind)
            self.define(name, body)
        return name

    def grammar(self, start: str) -> str:
        """The whole text, with its first rule."""
        return "\n".join((f"start: {start}", *(f"{name}: {body}" for name, body in self._bodies.items()), ""))


def literal(text: str) -> str:
    """Exactly this text, none of it a marker; nothing for none."""
    return quote(text).replace("\x7f", "\\u007f") if text else ""


def join(*parts: str) -> str:
    """The expressions one behind the other."""
    return " ".join(part for part in parts if part)


def repeat(body: str, low: int, high: int | None) -> str:
    """`low` to `high` times the expression; None: without bound."""
    if high == 0 or not body:
        return ""
    if (low, high) == (1, 1):
        return body
    counts = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return f"({body})" + counts.get((low, high), f"{{{low},{'' if high is None else high}}}")


def regex(pattern: str) -> str:
    """A regular expression over one lexeme; `pattern` is one of `patterns`' making, so without slash or line feed."""
    return f"/{pattern}/" if pattern else '""'


def escape(text: str) -> str:
    """The text as a regular expression."""
    return "".join(char if _PLAIN.match(char) else f"\\x{{{ord(char):x}}}" for char in text)


def optional(body: str) -> str:
    """The expression or nothing."""
    return f"({body})?" if body else ""


def choice(options: Iterable[str]) -> str:
    """One of several expressions."""
    unique = list(dict.fromkeys(option for option in options if option))
    return "".join(unique) if len(unique) < 2 else "(" + " | ".join(unique) + ")"
