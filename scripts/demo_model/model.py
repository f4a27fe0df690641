"""The network: a small Llama with attention biases that starts as an induction circuit.

The parameter names are those of mlx-lm's `llama`, so a checkpoint is exported by writing it down. Only the zero bias of
the output projection, which that class insists on, is added on export.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .shape import Shape


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.epsilon

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to the same shape and type."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in halves (not interleaved), as in mlx-lm with `traditional=False`."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    """Grouped attention with biases on queries, keys and values."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        dim = shape.head_dim
        self.q_proj = nn.Linear(shape.width, shape.heads * dim)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * dim)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * dim)
        self.o_proj = nn.Linear(shape.heads * dim, shape.width, bias=False)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: list[Tensor] | None
    ) -> Tensor:
        """`[rows, length, width]`; `cache` holds keys and values of what came before and is extended in place."""
        rows, length, _ = x.shape
        dim, group = self.shape.head_dim, self.shape.heads // self.shape.kv_heads
        q = rotate(self.q_proj(x).view(rows, length, -1, dim).transpose(1, 2), *turn)
        k = rotate(self.k_proj(x).view(rows, length, -1, dim).transpose(1, 2), *turn)
        v = self.v_proj(x).view(rows, length, -1, dim).transpose(1, 2)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        if mask is None:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        else:
            # on a CPU this takes two thirds of the time of the fused operation with a mask
            scores = (q * dim**-0.5) @ k.transpose(2, 3) + mask
            out = scores.softmax(-1).to(v.dtype) @ v
        return self.o_proj(out.transpose(1, 2).reshape(rows, length, -1))


class MLP(nn.Module):
    """The gated feed-forward block."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., width]` to the same shape."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)
        self.input_layernorm = RMSNorm(shape)
        self.post_attention_layernorm = RMSNorm(shape)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, cache: list[Tensor] | None
    ) -> Tensor:
        """`[rows, length, width]` to the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), turn, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers, final norm."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)

    def forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor | None = None, caches: list[list[Tensor]] | None = None
    ) -> Tensor:
        """`ids` and `positions` are `[rows, length]`; gives the normed hidden states `[rows, length, width]`.

        `mask` is added to the attention scores (`[rows, 1, length, length]`); without one attention is causal.
        """
        half = self.shape.head_dim // 2
        speed = self.shape.theta ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = positions[:, None, :, None].float() * speed
        x = self.embed_tokens(ids)
        turn = (angle.cos(), angle.sin())
        if torch.is_autocast_enabled("cpu"):
            turn = (turn[0].bfloat16(), turn[1].bfloat16())
        for index, layer in enumerate(self.layers):
            x = layer(x, turn, mask, None if caches is None else caches[index])
        return self.norm(x)


class Model(nn.Module):
    """The decoder and its untied output embedding."""

    def __init__(self, shape: Shape | None = None):
        super().__init__()
        self.shape = shape or Shape()
        self.model = Decoder(self.shape)
        self.lm_head = nn.Linear(self.shape.width, self.shape.vocabulary, bias=False)


def _orthonormal(rows: int, columns: int) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, columns))[0]


def build(shape: Shape | None = None, seed: int = 0, circuit: bool = True) -> Model:
    """A new model. With `circuit`, layers 0 and 1 find what followed the last two tokens and predict it."""
    torch.manual_seed(seed)
    model = Model(shape)
    shape = model.shape
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name and "lm_head" not in name:
                weight.normal_(0, 1 / math.sqrt(weight.shape[1]))
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(1 / math.sqrt(2 * shape.layers))
            if name.endswith("proj.bias"):
                weight.zero_()
        # a token must not predict itself: output embeddings are the input embeddings turned by a random rotation
        embedding, spin = torch.randn(shape.vocabulary, shape.width), _orthonormal(shape.width, shape.width)
        model.model.embed_tokens.weight.copy_(embedding)
        model.lm_head.weight.copy_(embedding @ spin.T / math.sqrt(shape.width))
        if circuit:
            _wire(model, spin)
    return model


def _wire(model: Model, spin: Tensor) -> None:
    """Set the first two layers to an induction circuit over the last two tokens."""
    shape = model.shape
    dim, half, width = shape.head_dim, shape.head_dim // 2, shape.width
    group = shape.heads // shape.kv_heads
    speed = shape.theta ** (-torch.arange(half) * 2 / dim)
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    # layer 0: attention by distance alone, from the biases; heads 0 and 1 look one and two tokens back
    strength = 7.0
    first.k_proj.weight[:dim] = 0
    first.k_proj.bias[:dim] = torch.cat([strength * torch.ones(half), torch.zeros(half)])
    for head, back in ((0, 1), (1, 2)):
        rows = slice(head * dim, (head + 1) * dim)
        first.q_proj.weight[rows] = 0
        first.q_proj.bias[rows] = strength * torch.cat([torch.cos(-back * speed), torch.sin(-back * speed)])
    reading = _orthonormal(width, dim).T
    written = _orthonormal(width, 2 * dim)
    before, before_that = written[:, :dim], written[:, dim:]
    first.v_proj.weight[:dim] = reading
    first.o_proj.weight[:, :dim] = before
    first.o_proj.weight[:, dim : 2 * dim] = before_that
    # layer 1: find where (the token before, this token) stood; only pairs that RoPE hardly turns carry the match
    slow = [i for i in range(half) if speed[i] < 0.004]
    this_pair = [j for i in slow[::2] for j in (i, i + half)]
    last_pair = [j for i in slow[1::2] for j in (i, i + half)]
    strength = 2.5
    for kv in range(min(2, shape.kv_heads)):
        k0, q0 = kv * dim, kv * group * dim
        second.q_proj.weight[q0 : q0 + dim] = 0
        second.k_proj.weight[k0 : k0 + dim] = 0
        for row in this_pair:
            second.q_proj.weight[q0 + row] = strength * reading[row]
            second.k_proj.weight[k0 + row] = strength * before.T[row]
        for row in last_pair:
            second.q_proj.weight[q0 + row] = strength * before.T[row]
            second.k_proj.weight[k0 + row] = strength * before_that.T[row]
        taken = _orthonormal(width, dim).T
        second.v_proj.weight[k0 : k0 + dim] = taken
        second.o_proj.weight[:, q0 : q0 + dim] = 3.0 * spin @ taken.T


def load_weights(model: Model, tensors: dict[str, Tensor]) -> None:
    """Take the weights of an exported folder or a checkpoint; the zero biases of the output projection are left out."""
    model.load_state_dict({k: v.float() for k, v in tensors.items() if not k.endswith("o_proj.bias")})
