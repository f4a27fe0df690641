"""Finding one of several literals at a place in text that is still growing."""

import re
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class Wait:
    """The text ends inside what may become a literal."""


WAIT: Final = Wait()


class Literals(Generic[T]):
    """Literals and what each stands for. The longest that fits wins; an empty one fits where no other does."""

    __slots__ = ("_by_first", "_empty", "first", "longest")

    def __init__(self, entries: Iterable[tuple[str, T]], also: str = "") -> None:
        ordered = sorted(entries, key=lambda entry: -len(entry[0]))
        by_first: dict[str, list[tuple[str, T]]] = {}
        self._empty: tuple[str, T] | None = None
        for entry in ordered:
            if entry[0]:
                by_first.setdefault(entry[0][0], []).append(entry)
            else:
                self._empty = entry
        self._by_first = {first: tuple(found) for first, found in by_first.items()}
        self.longest = len(ordered[0][0]) if ordered else 0
        characters = sorted({*by_first, *also})
        # One character class: finds where a literal may begin.
        self.first = re.compile("[" + "".join(map(re.escape, characters)) + "]" if characters else r"(?!)")

    def at(self, text: str, pos: int, final: bool) -> tuple[str, T] | Wait | None:
        """The literal at `pos`; WAIT if the text is too short to tell, which cannot be once it is `final`."""
        if pos >= len(text):
            return None if final else WAIT
        room = len(text) - pos
        for literal, meaning in self._by_first.get(text[pos], ()):
            if len(literal) <= room:
                if text.startswith(literal, pos):
                    return literal, meaning
            elif not final and literal.startswith(text[pos:]):
                return WAIT
        return self._empty

    def starts(self, text: str) -> bool:
        """Whether the text is the beginning, and no more, of a literal."""
        return bool(text) and any(
            literal.startswith(text) for literal, _ in self._by_first.get(text[0], ()) if len(literal) > len(text)
        )

    def without_start(self, text: str) -> str:
        """The text without what may be the beginning of a literal at its end."""
        for at in range(max(0, len(text) - self.longest), len(text)):
            if any(literal.startswith(text[at:]) for literal, _ in self._by_first.get(text[at], ())):
                return text[:at]
        return text
