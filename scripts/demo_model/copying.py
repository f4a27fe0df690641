"""An exercise in copying: random tokens, said once, have to be said again. It keeps the induction circuit in shape for
words that dialogues hardly ever hold."""

from __future__ import annotations

import torch

from .batches import Batch
from .render import SPECIAL


def copy_batch(seed: int, tokens: int, vocabulary: int, length: int = 192) -> Batch:
    """Rows of pieces of 4 to 14 tokens that return once in another order; targets are what two tokens foretell.

    Between first and second time positions leap by up to 6,000, so that copying works from far away too.
    """
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    rows, width = max(1, tokens // length), length
    ids = torch.randint(len(SPECIAL), vocabulary, (rows, width), generator=random)
    turn = torch.zeros(rows, width, dtype=torch.long)
    positions = torch.arange(width).repeat(rows, 1)
    for row in range(rows):
        half, at, pieces = width // 2, 0, []
        while at + 14 < half:
            size = draw(4, 14)
            pieces.append(ids[row, at : at + size].clone())
            at += size + draw(0, 2)
        at = half
        for index in torch.randperm(len(pieces), generator=random).tolist():
            piece = pieces[index][: width - at]
            ids[row, at : at + len(piece)] = piece
            turn[row, at + 2 : at + len(piece)] = 1
            at += len(piece) + 1
            if at >= width - 4:
                break
        positions[row, half:] += int(2 ** (draw(0, 125) / 10)) if draw(0, 1) else 0
    mask = torch.zeros(width, width).masked_fill_(torch.ones(width, width, dtype=torch.bool).triu(1), float("-inf"))
    return Batch(ids, positions, turn, mask.expand(rows, 1, width, width), [["copy"]] * rows)
