"""Whether the answer so far stands inside a code fence that it opened itself."""

_LINE = 120


class Fences:
    """Follows the answer line by line; `add` costs O(1) per character."""

    __slots__ = ("_fence", "_line")

    def __init__(self) -> None:
        self._line = ""
        self._fence = ""

    def add(self, text: str) -> None:
        """Take the next piece of the answer."""
        cut = text.rfind("\n")
        if cut < 0:
            if len(self._line) < _LINE:
                self._line += text[:_LINE]
            return
        if self._fence or "``" in text or "~~" in text or "`" in self._line or "~" in self._line:
            for line in (self._line + text[:cut]).split("\n"):
                self._fence = self._after(line)
        self._line = text[cut + 1 : cut + 1 + _LINE]

    def inside(self) -> bool:
        """Whether text written here would be code."""
        return bool(self._after(self._line))

    def at_line_start(self) -> bool:
        """Whether nothing but white space stands before this place in its line."""
        return not self._line or self._line.isspace()

    def _after(self, line: str) -> str:
        bare = line[:_LINE].strip()
        mark = bare[:1]
        if mark not in ("`", "~") or not bare.startswith(mark * 3):
            return self._fence
        rest = bare.lstrip(mark)
        run = bare[: len(bare) - len(rest)]
        if not self._fence:
            return "" if mark == "`" and mark in rest else run
        return "" if not rest and run.startswith(self._fence) else self._fence
