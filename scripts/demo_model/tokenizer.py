"""How the tokenizer was made. The one that ships is kept: this file says where it came from, and makes another.

Letters, digits and everything else never share a token, so a word is the same tokens in a request and inside JSON;
without that such a small model does not learn to copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .dialogues import document
from .render import SPECIAL, render_prefix, render_turns
from .split import Source

CLASSES = r"\p{N}|[A-Za-z]+|[^A-Za-z\p{N}]+"


def texts(documents: int, seed: int) -> Iterator[str]:
    """Rendered dialogues to count pairs in."""
    r = Source(seed)
    for _ in range(documents):
        doc = document(r)
        for turns in doc.branches:
            yield render_prefix(doc.style, doc.schemas, doc.system) + "".join(
                t for t, _ in render_turns(doc.style, len(doc.schemas), turns)
            )


def make_tokenizer(path: Path, size: int = 2048, documents: int = 6000, seed: int = 5) -> None:
    """Train a byte-level BPE of `size` tokens, the control tokens first, and write it to `path`."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(CLASSES), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts(documents, seed), trainer)
    tokenizer.save(str(path))
