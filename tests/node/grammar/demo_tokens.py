"""The demo model's vocabulary, for grammars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from running_paths import DEMO

from node.engine.tokenizer import load_tokenizer
from node.serving.grammar.calls import Grammar
from node.serving.grammar.compiler import Compiled, GrammarCompiler
from node.serving.grammar.tokens import GrammarTokens
from node.serving.pieces import Vocabulary

TOKENIZER: Any = load_tokenizer(DEMO)
VOCABULARY = Vocabulary(TOKENIZER)
STOPS = frozenset(int(token) for token in TOKENIZER.eos_token_ids)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")


@cache
def tokens() -> GrammarTokens:
    return GrammarTokens(TOKENIZER, VOCABULARY)


@contextmanager
def compiler(**options: Any) -> Iterator[GrammarCompiler]:
    made = GrammarCompiler(tokens(), STOPS, **options)
    try:
        yield made
    finally:
        made.close()


async def compiled(made: GrammarCompiler, text: str) -> Compiled:
    return await made.compile(text, lambda validate: Grammar(text), param="tools")


def encode(text: str) -> list[int]:
    """As the tokenizer writes it, markers as tokens."""
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False)
    return ids


def allowed(mask: bytes) -> set[int]:
    return {at * 8 + bit for at, byte in enumerate(mask) if byte for bit in range(8) if byte >> bit & 1}


def spell(ids: Sequence[int]) -> str:
    return b"".join(map(VOCABULARY.bytes_of, ids)).decode()
