"""The stretch of text that is being looked at, and which parts of it are single vocabulary tokens."""

Piece = tuple[str, bool]


class Window:
    """What was left of earlier pieces and the newest one. `tokens`: from where to where single tokens stand."""

    __slots__ = ("final", "text", "tokens")

    def __init__(self, text: str, tokens: list[tuple[int, int]], final: bool) -> None:
        self.text = text
        self.tokens = tokens
        # Nothing follows.
        self.final = final

    def is_token(self, pos: int) -> bool:
        """Whether what stands at `pos` is a single token, or part of one."""
        return any(start <= pos < end for start, end in self.tokens)

    def tokens_from(self, pos: int) -> list[tuple[int, int]]:
        """The single tokens of the text from `pos` on."""
        return [(max(start - pos, 0), end - pos) for start, end in self.tokens if end > pos]

    def pieces(self, pos: int) -> list[Piece]:
        """The text from `pos` on as pieces, of which each says whether it is a single token."""
        text, at = self.text[pos:], 0
        found: list[Piece] = []
        for start, end in self.tokens_from(pos):
            found += [(text[at:start], False), (text[start:end], True)]
            at = end
        found.append((text[at:], False))
        return [piece for piece in found if piece[0]]
