"""How many turns a checkpoint gets right, fast.

Greedy decoding says exactly the wanted turn if and only if each of its tokens is the most likely one after those before
it, so one forward pass over the finished dialogue scores all of its turns.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from tokenizers import Tokenizer

from .batches import group
from .dialogues import document
from .model import Model, mixed_precision
from .rows import Row, encode
from .split import Source


def held_rows(
    tokenizer: Tokenizer, count: int, seed: int = 20_000, size: str = "normal", held: bool = True
) -> list[Row]:
    """The same held-out documents each time."""
    r = Source(seed, held=held)
    rows = [encode(tokenizer, r, document(r, size)) for _ in range(count)]
    return [row for row in rows if row.kinds and len(row.ids) <= 6000]


@torch.no_grad()
def score(model: Model, rows: list[Row], tokens: int = 8192) -> dict[str, tuple[int, int]]:
    """Right turns and all turns by kind; `calls none` counts turns without a call that begin without one."""
    count: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for batch in group(Source(0), list(rows), tokens):
        with mixed_precision():
            hidden = model.model(batch.ids, batch.positions, batch.parts, batch.wanted)
        said = batch.wanted + 1
        right = model.lm_head(hidden.float()).argmax(-1) == batch.ids[said]
        for row, kinds in enumerate(batch.kinds):
            mine_all = batch.row[said] == row
            for number, kind in enumerate(kinds, 1):
                mine = right[mine_all & (batch.turn[said] == number)]
                count[kind][0] += bool(mine.all())
                count[kind][1] += 1
                if kind == "no tool fits":
                    count["calls none"][0] += bool(mine[0])
                    count["calls none"][1] += 1
    return {kind: (a, b) for kind, (a, b) in sorted(count.items())}


def shown(scores: dict[str, tuple[int, int]]) -> str:
    """Scores in one line."""
    return ", ".join(f"{kind} {a}/{b} = {100 * a / b:.1f} %" for kind, (a, b) in scores.items())
