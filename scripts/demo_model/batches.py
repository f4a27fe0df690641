"""Rows to tensors: tokens of several documents packed, and where each belongs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .dialogues import document
from .model import Part, parts_of
from .rows import Row, encode
from .split import Source

FILL = 512
"""Packs are filled up to a multiple of this with tokens that nothing attends to; see `model.STEP`."""


@dataclass
class Batch:
    """Packed tokens: `ids`, `positions`, `turn`, `row` are `[tokens]`; `wanted` are the places before what is said.

    The tokens that fill the pack up are of row -1.
    """

    ids: Tensor
    positions: Tensor
    turn: Tensor
    row: Tensor
    parts: list[Part]
    wanted: Tensor
    kinds: list[list[str]]


def collate(rows: list[Row]) -> Batch:
    """Pack rows; what the model says never begins a branch, so the place before each such token is in that branch."""
    prefixes: list[list[int]] = []
    branches: list[tuple[int, list[int]]] = []
    at = 0
    for number, row in enumerate(rows):
        pieces: list[list[int]] = [[] for _ in range(max(row.branch, default=0) + 1)]
        for place, branch in enumerate(row.branch, at):
            pieces[branch].append(place)
        prefixes.append(pieces[0])
        branches += [(number, piece) for piece in pieces[1:]]
        at += len(row.ids)
    filling = -at % FILL
    flat = {
        name: torch.tensor([value for row in rows for value in getattr(row, name)] + [0] * filling)
        for name in ("ids", "positions", "turn")
    }
    owner = torch.tensor([index for index, row in enumerate(rows) for _ in row.ids] + [-1] * filling)
    wanted = flat["turn"].nonzero().flatten() - 1
    return Batch(
        flat["ids"],
        flat["positions"],
        flat["turn"],
        owner,
        parts_of(prefixes, branches, at + filling),
        wanted,
        [row.kinds for row in rows],
    )


def stream(
    tokenizer: Tokenizer, seed: int, tokens: int, easy: float = 0.0, plain: float = 0.0, longest: int = 3000
) -> Iterator[Batch]:
    """Training batches of about `tokens` tokens without end; a share of `easy` documents helps in the beginning, of
    `plain` ones at the end."""
    r = Source(seed)
    rest = 1 - easy - plain
    sizes, shares = ("easy", "plain", "short", "normal", "long"), (easy, plain, 0.4 * rest, 0.59 * rest, 0.01 * rest)
    while True:
        pool: list[Row] = []
        while len(pool) < 200:
            size = r.choices(sizes, shares)[0]
            row = encode(tokenizer, r, document(r, size), jumps=r.maybe(0.2))
            if row.kinds and len(row.ids) <= (2 * longest if size == "long" else longest):
                pool.append(row)
        yield from group(r, pool, tokens)


def group(r: Source, pool: list[Row], tokens: int) -> list[Batch]:
    """Batches of rows of like length, in random order."""
    pool.sort(key=lambda row: row.branch.count(0))
    groups: list[list[Row]] = [[]]
    size = 0
    for row in pool:
        if groups[-1] and size + len(row.ids) > tokens:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += len(row.ids)
    r.shuffle(groups)
    return [collate(rows) for rows in groups]
