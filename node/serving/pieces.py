"""Token ids to text, one piece per token, as soon as its characters are whole.

The text is a pure function of the ids and equals the tokenizer's own decoding; nothing is held back but the bytes of
an unfinished character. mlx-lm's streaming detokenizers hold back a lone space until the next token, and then hand
out two tokens as one piece, in which a marker can no longer be told from text.
"""

from __future__ import annotations

import codecs
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

_SPM_SPACE = "▁"


@dataclass(frozen=True, slots=True)
class Piece:
    """Decoded text; ``single`` says that it is the text of the one token ``token_id`` and of no other."""

    text: str
    token_id: int
    single: bool


class Decoder(Protocol):
    """Decodes one sequence."""

    def feed(self, token_id: int) -> Piece | None:
        """The text that the token completes; None while a character is unfinished."""

    def finish(self) -> str:
        """What is left: replacement characters for bytes that never became whole."""

    def copy(self) -> Decoder:
        """Another decoder in the same state."""


class Vocabulary:
    """The bytes of each token of a tokenizer, made once per model.

    Args:
        tokenizer: a transformers tokenizer, or mlx-lm's wrapper of one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = {token_id: str(token) for token_id, token in tokenizer.added_tokens_decoder.items()}
        self.special_ids = frozenset(
            token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special
        )
        size = max(len(tokenizer), *self._added, 0) if self._added else len(tokenizer)
        self._tokens: list[str | None] = tokenizer.convert_ids_to_tokens(list(range(size)))
        self._kind = _kind(tokenizer)
        self._bytes: dict[int, bytes] = {}

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that a token stands for in the middle of a text; none for an id beyond the vocabulary."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._make(token_id)
        return known

    def text_of(self, token_id: int) -> str:
        """A token's text for people; bytes that are no whole character show as replacement characters."""
        return self.bytes_of(token_id).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """A decoder for one sequence that goes on from a prompt."""
        if self._kind == "other":
            return _WindowDecoder(self._tokenizer)
        return _ByteDecoder(self, strip_first_space=self._kind == "spm")

    def _make(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode("utf-8", "surrogatepass")
        token = self._tokens[token_id] if 0 <= token_id < len(self._tokens) else None
        if token is None:
            return b""
        if self._kind == "bytes":
            return b"".join(_BYTE_OF.get(char, char.encode()) for char in token)
        if self._kind == "other":
            return str(self._tokenizer.decode([token_id])).encode()
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes((int(token[3:5], 16),))
        return token.replace(_SPM_SPACE, " ").encode()


class _ByteDecoder:
    """For vocabularies whose tokens are bytes: one incremental UTF-8 decoder."""

    def __init__(self, vocabulary: Vocabulary, *, strip_first_space: bool) -> None:
        self._bytes_of = vocabulary.bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = strip_first_space
        self._whole = True

    def feed(self, token_id: int) -> Piece | None:
        """One piece per token, once its characters are whole."""
        data = self._bytes_of(token_id)
        text = self._utf8.decode(data)
        began_whole = self._whole
        self._whole = not self._utf8.getstate()[0]
        if self._strip and data:
            self._strip = False
            if text.startswith(" "):
                text = text[1:]
        if not text:
            return None
        return Piece(text, token_id, began_whole and self._whole)

    def finish(self) -> str:
        """What is left."""
        return self._utf8.decode(b"", final=True)

    def copy(self) -> _ByteDecoder:
        """Another decoder in the same state."""
        other = copy(self)
        other._utf8 = deepcopy(self._utf8)
        return other


class _WindowDecoder:
    """For any other tokenizer: decodes a small window again with each token and takes the difference."""

    _REPLACEMENT = "�"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._read = 0

    def feed(self, token_id: int) -> Piece | None:
        """One piece per token, once its characters are whole."""
        self._window.append(token_id)
        before = self._decode(self._window[: self._read])
        after = self._decode(self._window)
        if len(after) <= len(before) or after.endswith(self._REPLACEMENT):
            return None
        single = len(self._window) - self._read == 1
        self._window, self._read = self._window[self._read :], len(self._window) - self._read
        return Piece(after[len(before) :], token_id, single)

    def finish(self) -> str:
        """What is left."""
        before = self._decode(self._window[: self._read])
        return self._decode(self._window)[len(before) :]

    def copy(self) -> _WindowDecoder:
        """Another decoder in the same state."""
        other = copy(self)
        other._window = [*self._window]
        return other

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False)) if ids else ""


def _kind(tokenizer: Any) -> str:
    """``bytes`` for byte-level BPE, ``spm`` or ``spm-verbatim`` for SentencePiece shapes, ``other`` for the rest."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    if decoder is None:
        return "other"
    names = repr(decoder)
    if "ByteLevel" in names and "ByteFallback" not in names:
        return "bytes"
    if "ByteFallback" in names and _SPM_SPACE in names:
        return "spm" if "Strip" in names else "spm-verbatim"
    return "other"


def _byte_table() -> dict[str, bytes]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest follows from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): bytes((byte,)) for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(256 + index): bytes((byte,)) for index, byte in enumerate(others)})
    return table


_BYTE_OF = _byte_table()
