"""Documents to token ids: one prefix, and branches that each follow it."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer

from .dialogues import Document, kind_of
from .render import Segment, render_prefix, render_turns
from .split import Source


@dataclass
class Row:
    """A document as token ids. `branch` is 0 for the prefix; `turn` numbers what the model says, from 1, else 0."""

    ids: list[int]
    positions: list[int]
    branch: list[int]
    turn: list[int]
    kinds: list[str]


def encode(tokenizer: Tokenizer, r: Source, doc: Document, jumps: bool = False) -> Row:
    """Tokenise a document. With `jumps`, positions leap somewhere, as if more stood before: far distances for free."""
    prefix = render_prefix(doc.style, doc.schemas, doc.system)
    branches: list[list[Segment]] = [render_turns(doc.style, len(doc.schemas), b) for b in doc.branches]
    texts = [prefix, *(text for b in branches for text, _ in b)]
    encoded = iter([e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)])
    ids = list(next(encoded))
    positions = list(range(len(ids)))
    if jumps and ids:
        at, leap = r.randint(0, len(ids) - 1), int(2 ** r.uniform(5, 12.5))
        positions[at:] = [p + leap for p in positions[at:]]
    base = positions[-1] + 1 if ids else 0
    row = Row(ids, positions, [0] * len(ids), [0] * len(ids), [])
    for number, (segments, messages) in enumerate(zip(branches, doc.branches, strict=True), 1):
        start = base + (int(2 ** r.uniform(3, 12)) if jumps and r.maybe(0.3) else 0)
        said = iter([kind_of(messages, i) for i, m in enumerate(messages) if m["role"] == "assistant"])
        for _, trained in segments:
            more = next(encoded)
            if trained:
                row.kinds.append(next(said))
            row.ids += more
            row.branch += [number] * len(more)
            row.turn += [len(row.kinds) if trained else 0] * len(more)
            row.positions += range(start, start + len(more))
            start += len(more)
    return row
