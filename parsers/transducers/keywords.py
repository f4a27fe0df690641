"""The keyword arguments of a Python call as JSON."""

from collections.abc import Callable, Sequence

from parsers.quoting import quote
from parsers.transducers.python import WORD_END, PythonLiteral

_LONGEST = 256


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
            hit = WORD_END.search(text, pos, pos + _LONGEST)
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

    def finish(self, out: list[str], rest: str, limited: bool) -> None:
        """The text is over: close what is open. A key without its value stays as it was written."""
        rest = rest.strip()
        if self.value is None and rest and not limited:
            out.append(("{" if not self._count else ", ") + rest)
            self._count += 1
        if self.value is not None:
            self.value.finish(out, rest, limited)
            if not self.value.done:
                return
            self._count += 1
        if not self.done and not limited:
            self._close(out)
