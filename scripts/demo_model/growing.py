"""More heads for weights that are there: trained weights keep what they can do and get the circuit of a new model."""

from __future__ import annotations

import torch
from torch import Tensor

from .model import Model, Part, look_back, match_rows


@torch.no_grad()
def grow(model: Model, tensors: dict[str, Tensor], ids: Tensor, positions: Tensor, parts: list[Part]) -> None:
    """Take weights with one group of heads less, and make the new group what a new model begins with.

    The new heads of the other layers say nothing yet. A pack of real tokens shows which directions between layers 0
    and 1 are free; a match is worth 12 in the scores.
    """
    for name, weight in model.named_parameters():
        old = tensors[name].float()
        if weight.shape == old.shape:
            weight.copy_(old)
        elif name.endswith("o_proj.weight"):
            weight.zero_()[:, : old.shape[1]] = old
        elif weight.ndim == 2:
            weight.normal_(0, weight.shape[1] ** -0.5)[: len(old)] = old
        else:
            weight.zero_()[: len(old)] = old
    shape = model.shape
    dim, group = shape.head_dim, shape.heads // shape.kv_heads
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    norm = model.model.layers[1].input_layernorm
    this_pair, last_pair = match_rows(shape)
    k0, q0 = (shape.kv_heads - 1) * dim, (shape.kv_heads - 1) * group * dim
    for name in ("weight", "bias"):
        value = getattr(first.v_proj, name)
        value[k0 : k0 + dim] = value[:dim]
    look_back(first, q0 // dim, 3)
    look_back(first, q0 // dim + 1, 4)
    between: list[Tensor] = []
    values: list[Tensor] = []
    hooks = (
        norm.register_forward_pre_hook(lambda _module, given: between.append(given[0])),
        first.v_proj.register_forward_hook(lambda _module, _given, out: values.append(out[:, :dim])),
    )
    model.model(ids, positions, parts, torch.zeros(1, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    free = torch.linalg.eigh(between[0].T @ between[0])[1]
    asked, answered = free[:, : len(last_pair)], free[:, len(last_pair) : 2 * len(last_pair)]
    for at, directions in ((q0, asked), (q0 + dim, answered)):
        for row, direction in zip(last_pair, directions.T, strict=True):
            first.o_proj.weight[:, at + row] = direction
    size, mean = between[0].pow(2).mean().sqrt(), values[0].mean(0)
    spread = (values[0] - mean)[:, last_pair].pow(2).sum(1).mean() / size**2
    strength = float((12 * dim**0.5 / spread).sqrt())
    for projection, at, directions in ((second.q_proj, q0, asked), (second.k_proj, k0, answered)):
        projection.weight[at : at + dim] = 0
        for row in this_pair:
            projection.weight[at + row] = projection.weight[row]
            projection.bias[at + row] = projection.bias[row]
        for row, direction in zip(last_pair, directions.T, strict=True):
            projection.weight[at + row] = strength * direction / norm.weight
            projection.bias[at + row] = -strength * mean[row] / size
    for name in ("weight", "bias"):
        value = getattr(second.v_proj, name)
        value[k0 : k0 + dim] = value[:dim]
    second.o_proj.weight[:, q0 : q0 + dim] = second.o_proj.weight[:, :dim]
