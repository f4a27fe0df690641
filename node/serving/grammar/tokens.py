"""A model's vocabulary as llguidance wants it: bytes per token, which tokens are markers, how bytes are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper

from node.serving.pieces import Vocabulary

_REPLACEMENT = "\ufffd".encode()
# Tokens that are looked at all at once where any text of the kind may follow: as llguidance has them for strings in
# JSON, and for values between tags, which hold quotes and line feeds, and in which a bracket may begin the closing tag.
_SLICES = (
    r"[\x20\x0A\x0D\x09]+",
    *(rf'[^<"\\\x00-\x1F\x7F]{count}' for count in ("{1,10}", "{1,30}", "+")),
    r'[^"\\\x00-\x1F\x7F]+',
    r"[^<\x00-\x08]+",
)


class GrammarTokens:
    """The vocabulary of one model. Making ``engine`` takes up to a second; for any thread.

    An id more than the tokenizer has stands for the end of the turn: the model's own end tokens may then be written
    in grammars like any other marker.
    """

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        added = {int(token_id): str(token) for token_id, token in tokenizer.added_tokens_decoder.items()}
        self.markers = {text: token_id for token_id, text in added.items()}
        """Text and id of every added token: in grammars they are written by id and match no text."""
        self.size = max(len(tokenizer), max(added, default=-1) + 1)
        """How many tokens there are."""

    @cached_property
    def engine(self) -> LLTokenizer:
        """llguidance's own."""
        source = TokenizerWrapper(_Source(self))
        return LLTokenizer(source, n_vocab=self.size + 1, eos_token=[self.size], slices=list(_SLICES))

    @cached_property
    def bytes_of(self) -> list[bytes]:
        """The bytes of each token; none for those that do not say what they stand for."""
        known = [self._vocabulary.bytes_of(token) for token in range(self.size)]
        return [b"" if _REPLACEMENT in data else data for data in known]

    def write(self, data: bytes) -> list[int]:
        """The tokens of a text as the model's tokenizer writes it, without markers. Their bytes are ``data``."""
        if not data:
            return []
        text = data.decode("utf-8", "replace")
        if self._encode is not None and text.encode() == data:
            # SentencePiece puts a space before the first word of a text; behind a line feed it does not.
            for before in ("", "\n"):
                ids = self._encode(before + text)[len(self._encode(before)) :]
                if self._spells(ids, data):
                    return ids
        return self._greedy(data)

    def spell(self, text: str) -> tuple[int, ...]:
        """The tokens of a text in which markers are markers."""
        found: list[int] = []
        for part in self._markup.split(text):
            found += [self.markers[part]] if part in self.markers else self.write(part.encode())
        return tuple(found)

    def _spells(self, ids: list[int], data: bytes) -> bool:
        return b"".join(self.bytes_of[token] for token in ids) == data and self._texts.issuperset(ids)

    def _greedy(self, data: bytes) -> list[int]:
        ids: list[int] = []
        while data:
            length = next((n for n in range(min(len(data), self._longest), 0, -1) if data[:n] in self._by_bytes), 0)
            if not length:
                return ids
            ids.append(self._by_bytes[data[:length]])
            data = data[length:]
        return ids

    @cached_property
    def _markup(self) -> re.Pattern[str]:
        longest_first = sorted(filter(None, self.markers), key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" if longest_first else "(?!)")

    @cached_property
    def _texts(self) -> frozenset[int]:
        """All tokens but the markers."""
        return frozenset(range(self.size)) - frozenset(self.markers.values())

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        return {self.bytes_of[token]: token for token in self._texts if self.bytes_of[token]}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_bytes), default=0)

    @cached_property
    def _encode(self) -> Callable[[str], list[int]] | None:
        """Encodes text; None where the tokenizer is a program of its own."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        return lambda text: list(backend.encode(text, add_special_tokens=False).ids)


class _Source:
    """What llguidance reads a tokenizer from."""

    bos_token_id = None

    def __init__(self, tokens: GrammarTokens) -> None:
        self.eos_token_id = tokens.size
        self.tokens = [*tokens.bytes_of, b"<|end of the turn|>"]
        self.special_token_ids = [*tokens.markers.values(), tokens.size]
        self._write = tokens.write

    def __call__(self, data: bytes) -> list[int]:
        return self._write(data)
