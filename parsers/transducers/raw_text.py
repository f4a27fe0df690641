"""The raw text of one parameter, as JSON of the type that the schema gives it."""

from parsers import schema
from parsers.quoting import escape
from parsers.transducers.python import PythonLiteral

_CONTAINERS = frozenset({"object", "array"})
_ANY = schema.NAMES - {"string"}
_NULLABLE = frozenset({"string", "null"})


class RawText:
    """Takes a value's text in pieces (`push`), then its end (`close`); strings and containers stream."""

    __slots__ = ("_held", "_literal", "_overflows", "_rest", "_types", "_undecided", "plain")

    def __init__(self, types: frozenset[str], kind: str) -> None:
        if kind == "string":
            types = frozenset({"string"})
        elif kind == "json":
            types = _ANY
        self._types = types or frozenset({"string"})
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
        types = self._types
        if types == {"string"}:
            self._stream(out)
        elif "string" not in types and types & _CONTAINERS:
            text = "".join(self._held).lstrip()
            self._held = [text] if text else []
            if text:
                self._undecided = False
                if (text[0] == "{" and "object" in types) or (text[0] == "[" and "array" in types):
                    self._literal = PythonLiteral()
                    self._held = []
                    self._container(text, out)
        elif types == _NULLABLE:
            text = "".join(self._held)
            self._held = [text]
            if len(text) > 8 or not any(word.startswith(text.strip().lower()) for word in ("null", "none")):
                self._stream(out)
        else:
            self._undecided = False

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

    def close(self, out: list[str]) -> None:
        """The value is over."""
        if self.plain:
            out.append('"')
        elif self._literal is not None:
            out.append(self._rest)
            self._literal.finish(out)
        else:
            text = "".join(self._held)
            if self._types == _ANY and schema.is_json(text):
                out.append(text.strip())
            else:
                out.append(schema.scalar(text, self._types))
