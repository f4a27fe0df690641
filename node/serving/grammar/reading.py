"""What a sequence has said so far, as far as a grammar needs it: read beside the generation's own parser."""

from __future__ import annotations

from collections import deque
from copy import copy
from typing import Final, Literal

from node.serving.grammar.tokens import GrammarTokens
from node.serving.pieces import Decoder, Vocabulary
from parsers import Parser

_LONGEST_OPENING: Final = 1024
"""Tokens after which what may be a call's opening is taken for none."""
_BETWEEN: Final = " \t\r\n,;"
"""What formats put between calls, and before the first."""

Stage = Literal["", "opening", "started"]


class Reading:
    """A pure function of the tokens. For one thread.

    Args:
        vocabulary: of the model.
        tokens: the same for grammars.
        parser: primed with the prompt, its own.
    """

    def __init__(self, vocabulary: Vocabulary, tokens: GrammarTokens, parser: Parser) -> None:
        self._vocabulary = vocabulary
        self._tokens = tokens
        self._decoder: Decoder = vocabulary.decoder()
        self._parser = parser
        self.stage: Stage = ""
        """Whether a call is being read: its opening, or, once it is certain, the call."""
        self.in_thought = False
        """The call that is being read began inside a thought."""
        self.missed = False
        """Of the call that is being read it is not known where it began."""
        # The newest tokens with the text that each of them completed, and how much text that is: from where a call
        # may have begun.
        self._recent: deque[tuple[int, str]] = deque()
        self._held = 0
        # Characters since the call began.
        self._length = 0

    @property
    def thinking(self) -> bool:
        """Whether the text stands inside a thought."""
        return self._parser.in_reasoning

    @property
    def settled(self) -> bool:
        """Whether no call can be open yet, nor be opened without a marker."""
        return self._parser.settled and not self._recent

    def copy(self) -> Reading:
        """The same reading once more."""
        other = copy(self)
        other._decoder, other._parser, other._recent = self._decoder.copy(), self._parser.copy(), self._recent.copy()
        return other

    def feed(self, token: int) -> str:
        """Takes a token; the text that it completed."""
        thinking = self.thinking
        piece = self._decoder.feed(token)
        text = piece.text if piece is not None else ""
        if piece is not None:
            self._parser.feed(piece.text, piece.token_id, piece.single)
        elif not self._tokens.bytes_of[token : token + 1] or not self._tokens.bytes_of[token]:
            return ""
        self._recent.append((token, text))
        self._held += len(text)
        self._look(text, thinking)
        return text

    def call_text(self) -> str:
        """The text of the opening that is being read, from its first character on."""
        return (self._parser.call_text or "").lstrip(_BETWEEN)

    def call_tokens(self) -> list[int]:
        """Tokens that spell the call that is being read, from its first character on."""
        ids: list[int] = []
        left, at = self._length, len(self._recent)
        while left > 0 and at:
            at -= 1
            token, text = self._recent[at]
            if len(text) > left or (text and self._vocabulary.bytes_of(token) != text.encode() and not ids):
                return self._tokens.write(text[-left:].encode()) + ids
            ids.insert(0, token)
            left -= len(text)
        while at and not self._recent[at - 1][1]:  # the first bytes of the first character
            at -= 1
            ids.insert(0, self._recent[at][0])
        return ids

    def _look(self, text: str, thinking: bool) -> None:
        """Follows the parser: whether a call is being read, and from where on."""
        before, parser = self.stage, self._parser
        if parser.call_started:
            self.stage = "started"
            if before == "started":
                self._forget()
            else:
                self.missed = self.missed or not before
                self._length += len(text)
        elif parser.in_arguments:
            self.stage = "opening"
            if before != "opening":
                self.missed = False
                self.in_thought = thinking and not before
            if not self.missed:
                opening = parser.call_text or ""
                self._length = len(opening.lstrip(_BETWEEN))
                self.missed = len(self._recent) > _LONGEST_OPENING
                self._forget(len(opening))
            else:
                self._forget()
        else:
            self.stage, self.missed = "", False
            if text and parser.settled:
                self._forget()

    def _forget(self, length: int = 0) -> None:
        """Drops the tokens before the last ``length`` characters."""
        recent = self._recent
        while recent and self._held - len(recent[0][1]) >= length and (recent[0][1] or self._held > length):
            self._held -= len(recent.popleft()[1])
        if not length:
            recent.clear()
            self._held = 0
