"""Muon for the matrices between embeddings, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from .model import HAS_BFLOAT16, Model


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly, by Newton and Schulz's iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16() if HAS_BFLOAT16 else matrix
    flipped = x.shape[0] > x.shape[1]
    x = x.T if flipped else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if flipped else x).float()


class Muon(Optimizer):
    """Momentum, then the nearest orthogonal matrix, scaled so that its steps are as large as Adam's."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.02):
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Change every matrix. Workers divide the orthogonalising, which is most of the work, among themselves."""
        shared = dist.is_initialized()
        rank, workers = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)
        for group in self.param_groups:
            updates = []
            for index, weight in enumerate(group["params"]):
                assert weight.grad is not None
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                if index % workers == rank:
                    updates.append(orthogonal(weight.grad.lerp(momentum, group["momentum"])))
                else:
                    updates.append(torch.zeros_like(weight))
            flat = torch.cat([update.flatten() for update in updates])
            if shared:
                dist.all_reduce(flat)
            pieces = flat.split([update.numel() for update in updates])
            for weight, update in zip(group["params"], pieces, strict=True):
                weight.mul_(1 - group["lr"] * group["decay"])
                weight.add_(update.view_as(weight), alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)


def optimisers(model: Model, lr: float, muon: bool = True) -> list[Optimizer]:
    """The optimisers that together hold every weight once."""
    inner = {n: p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n}
    outer = [p for n, p in model.named_parameters() if n not in inner and p.ndim == 2]
    small = [p for p in model.parameters() if p.ndim != 2]
    matrices = list(inner.values())
    groups = [{"params": outer, "weight_decay": 0.01}, {"params": small, "weight_decay": 0.0}]
    if not muon:
        groups.append({"params": matrices, "weight_decay": 0.02})
    adam = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    return [adam, Muon(matrices, lr)] if muon else [adam]
