"""An exercise in copying: random tokens, said once, have to be said again. It keeps the induction circuit in shape for
words that dialogues hardly ever hold."""

from __future__ import annotations

import torch

from .batches import Batch, collate
from .render import SPECIAL
from .rows import Row


def copy_batch(seed: int, tokens: int, vocabulary: int, length: int = 192) -> Batch:
    """Rows of pieces of 4 to 14 tokens that return once in another order; targets are what two tokens foretell.

    Between first and second time positions leap by up to 6,000, so that copying works from far away too.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    rows, half = max(1, tokens // length), length // 2
    made: list[Row] = []
    for _ in range(rows):
        ids = torch.randint(len(SPECIAL), vocabulary, (length,), generator=random)
        turn = torch.zeros(length, dtype=torch.long)
        at, pieces = 0, []
        while at + 14 < half:
            size = draw(4, 14)
            pieces.append(ids[at : at + size].clone())
            at += size + draw(0, 2)
        at = half
        for index in torch.randperm(len(pieces), generator=random).tolist():
            piece = pieces[index][: length - at]
            ids[at : at + len(piece)] = piece
            turn[at + 2 : at + len(piece)] = 1
            at += len(piece) + 1
            if at >= length - 4:
                break
        leap = int(2 ** (draw(0, 125) / 10)) if draw(0, 1) else 0
        positions = [*range(half), *range(half + leap, length + leap)]
        made.append(Row(ids.tolist(), positions, [0] * half + [1] * (length - half), turn.tolist(), ["copy"]))
    return collate(made)
