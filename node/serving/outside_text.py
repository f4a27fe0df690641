"""Text from outside never becomes a control token: where it spells one, its characters are encoded as text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from node.serving import splicing
from node.serving.recall import Turn

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Noncharacters that mark, in the rendered text, what came from outside and spells a control token."""
_MARKED = re.compile(f"{_OPEN}(.*?){_CLOSE}|[{_OPEN}{_CLOSE}]", re.DOTALL)
_STRAY = str.maketrans("", "", _OPEN + _CLOSE + splicing.EDGE + splicing.IDS)
_ASCII = re.compile(r"ensure_ascii\s*=\s*[Tt]rue")
"""What a template says that writes JSON in ASCII, our marks included."""
_ESCAPED = re.compile(r"\\ufdd([012])")


def without_marks(text: str) -> str:
    """The text without any of the marks."""
    return text.translate(_STRAY)


def unescaped(text: str, source: str) -> str:
    """A rendered text with marks that its template, of this source, has written as JSON escapes."""
    return _ESCAPED.sub(lambda found: chr(0xFDD0 + int(found[1])), text) if _ASCII.search(source) else text


class OutsideText:
    """Marks text before it goes into a template, and encodes what the template made of it.

    ``tokenizer`` is mlx-lm's wrapper of the model's; ``control`` are its control tokens, the longest first.
    """

    def __init__(self, tokenizer: Any, control: list[str]) -> None:
        self._tokenizer = tokenizer
        self._control = re.compile("|".join(map(re.escape, control))) if control else None
        self._plain = _without_added_tokens(tokenizer)

    def guard(self, text: str) -> str:
        """Marks every control token that the text spells."""
        text = without_marks(text)
        return self._control.sub(lambda found: f"{_OPEN}{found[0]}{_CLOSE}", text) if self._control else text

    def encode(self, text: str, turns: Mapping[int, Turn]) -> list[int]:
        """Encodes a rendered conversation, with the tokens of recalled turns where they stand in it."""
        ids: list[int] = []
        for part in splicing.parts(text, turns):
            ids += part.ids if isinstance(part, Turn) else self._encode_marked(part, begins=not ids)
        return ids

    def _encode_marked(self, text: str, *, begins: bool) -> list[int]:
        """The template's own markers as tokens, marked ones as plain text."""
        ids: list[int] = []
        at = 0
        for found in _MARKED.finditer(text):
            ids += self._encode_part(text[at : found.start()], first=begins and at == 0)
            if found[1]:
                ids += self._plain.encode(found[1], add_special_tokens=False).ids
            at = found.end()
        return ids + self._encode_part(text[at:], first=begins and at == 0)

    def _encode_part(self, text: str, *, first: bool) -> list[int]:
        if not text:
            return []
        if first:
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        # SentencePiece puts a space before the first word of a text; behind a line feed it does not.
        line_feed = list(self._tokenizer.encode("\n", add_special_tokens=False))
        ids = list(self._tokenizer.encode("\n" + text, add_special_tokens=False))
        if ids[: len(line_feed)] == line_feed:
            return ids[len(line_feed) :]
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def _without_added_tokens(tokenizer: Any) -> Tokenizer:
    """The same tokenizer without its control tokens: whatever it encodes is text."""
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    data["added_tokens"] = []
    data["post_processor"] = None
    return Tokenizer.from_str(json.dumps(data))
