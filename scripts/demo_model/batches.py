"""Rows to tensors: branches share one prefix, see it and themselves and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .dialogues import document
from .rows import Row, encode
from .split import Source


@dataclass
class Batch:
    """Rows of like length: `ids`, `positions`, `turn` are `[rows, length]`, `mask` is added to attention scores."""

    ids: Tensor
    positions: Tensor
    turn: Tensor
    mask: Tensor
    kinds: list[list[str]]


def collate(rows: list[Row]) -> Batch:
    """Pad rows to the longest; a query sees the prefix and its own branch, up to itself."""
    width = max(len(row.ids) for row in rows)

    def padded(name: str, fill: int) -> Tensor:
        return torch.tensor([getattr(row, name) + [fill] * (width - len(row.ids)) for row in rows])

    branch = padded("branch", -1)
    keys, queries = branch[:, None, :], branch[:, :, None]
    seen = ((keys == 0) | (keys == queries)) & torch.ones(width, width, dtype=torch.bool).tril()
    mask = torch.zeros(len(rows), 1, width, width).masked_fill_(~seen[:, None], float("-inf"))
    return Batch(padded("ids", 0), padded("positions", 0), padded("turn", 0), mask, [row.kinds for row in rows])


def stream(tokenizer: Tokenizer, seed: int, tokens: int, easy: float = 0.0, longest: int = 1300) -> Iterator[Batch]:
    """Training batches of about `tokens` tokens without end; a share of `easy` documents helps in the beginning."""
    r = Source(seed)
    sizes = ("easy", "short", "normal", "long")
    shares = (easy, 0.4 * (1 - easy), 0.57 * (1 - easy), 0.03 * (1 - easy))
    while True:
        pool: list[Row] = []
        while len(pool) < 240:
            size = r.choices(sizes, shares)[0]
            row = encode(tokenizer, r, document(r, size), jumps=r.maybe(0.3))
            if row.kinds and len(row.ids) <= (4 * longest if size == "long" else longest):
                pool.append(row)
        yield from group(r, pool, tokens)


def group(r: Source, pool: list[Row], tokens: int) -> list[Batch]:
    """Batches of rows of like length, in random order."""
    pool.sort(key=lambda row: len(row.ids))
    groups: list[list[Row]] = [[]]
    for row in pool:
        if groups[-1] and len(row.ids) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
        groups[-1].append(row)
    r.shuffle(groups)
    return [collate(rows) for rows in groups]
