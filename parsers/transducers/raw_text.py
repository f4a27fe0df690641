"""The raw text of one parameter, as JSON of the type that the schema gives it."""

from parsers import schema
from parsers.quoting import escape
from parsers.transducers.python import PythonLiteral

_CONTAINERS = frozenset({"object", "array"})
_NUMBERS = frozenset({"integer", "number"})
_ANY = schema.NAMES - {"string"}
_STRING = frozenset({"string"})
_WORDS = (("boolean", "true"), ("boolean", "false"), ("null", "null"), ("null", "none"))


class RawText:
    """Takes a value's text in pieces (`push`), then its end (`close`); strings and containers stream.

    `types`: what the schema allows, which decides. `kind`: what the markup says, "string" or "json", which decides
    where the schema leaves a choice.
    """

    __slots__ = ("_held", "_json", "_literal", "_overflows", "_rest", "_types", "_undecided", "plain")

    def __init__(self, types: frozenset[str], kind: str) -> None:
        if kind == "string" and "string" in types:
            types = _STRING
        self._types = types or (_ANY if kind == "json" else _STRING)
        # Whether a string may be written as JSON writes it.
        self._json = kind == "json"
        self._held: list[str] = []
        # Whether every further piece is simply escaped.
        self.plain = False
        self._undecided = True
        self._literal: PythonLiteral | None = None
        self._rest = ""
        # There is text behind the container.
        self._overflows = False

    @property
    def blank(self) -> bool:
        """Whether nothing but white space has been pushed."""
        return not self.plain and self._literal is None and not "".join(self._held).strip()

    def push(self, text: str, out: list[str]) -> None:
        """Take the next piece of the value."""
        if self.plain:
            out.append(escape(text))
        elif self._literal is not None:
            self._container(text, out)
        else:
            self._held.append(text)
            if self._undecided:
                self._decide(out)

    def _decide(self, out: list[str]) -> None:
        """Find out, as early as can be, whether the value is a string or a container."""
        types = self._types
        if types == _STRING and not self._json:
            self._stream(out)
            return
        if self._held[-1].isspace():
            return
        text = "".join(self._held)
        self._held = [text]
        bare = text.lstrip()
        first = bare[0]
        container = (first == "{" and "object" in types) or (first == "[" and "array" in types)
        if "string" not in types:
            self._undecided = False
            if container:
                self._literal = PythonLiteral()
                self._held = []
                self._container(bare, out)
        elif container or (first in "+-0123456789" and types & _NUMBERS) or (first == '"' and self._json):
            self._undecided = False
        else:
            start = bare.rstrip().lower()
            if not any(kind in types and word.startswith(start) for kind, word in _WORDS):
                self._stream(out)

    def _stream(self, out: list[str]) -> None:
        self.plain, self._undecided = True, False
        out.append('"' + escape("".join(self._held)))
        self._held = []

    def _container(self, text: str, out: list[str]) -> None:
        literal = self._literal
        assert literal is not None
        text = self._rest + text
        pos = literal.run(text, 0, out)
        while literal.odd:
            pos = literal.run(text, literal.skip_odd(text, pos, out), out)
        self._rest = text[pos:]
        if literal.done:
            self._rest = ""
            behind = text[pos:] if self._overflows else text[pos:].lstrip()
            if behind:
                self._overflows = True
                out.append(behind)

    def cut(self, out: list[str]) -> None:
        """The token limit has cut the value: give out what may be the beginning of one."""
        text = "".join(self._held).strip()
        if self._literal is not None:
            self._literal.finish(out, self._rest, True)
        elif text and not self.plain:
            found = schema.scalar(text, self._types)
            out.append(found[:-1] if found[:1] == '"' else found)

    def close(self, out: list[str]) -> None:
        """The value is over."""
        if self.plain:
            out.append('"')
        elif self._literal is not None:
            self._literal.finish(out, self._rest, False)
        else:
            text = "".join(self._held)
            if (self._types == _ANY or (self._json and text.lstrip()[:1] == '"')) and schema.is_json(text):
                out.append(text.strip())
            else:
                out.append(schema.scalar(text, self._types))
