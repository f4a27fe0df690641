"""The network: a small Llama with attention biases that starts as an induction circuit.

The parameter names are those of mlx-lm's `llama`, so a checkpoint is exported by writing it down. Only the zero bias of
the output projection, which that class insists on, is added on export.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


HAS_BFLOAT16: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether the processor multiplies it: emulated, it took thirteen times as long as float32."""

STEP = 32
"""Lengths are filled up to a multiple of this: a kernel is made for each new shape, which takes longer than its use."""


@dataclass
class Part:
    """Sequences of like length that are attended to together.

    `places` `[sequences, length]` are places in the pack (filled up with the place after the last), `parent` the
    sequence of the first part that each follows and sees (none for the first part), `mask` is added to the scores,
    `[sequences, 1, 1, length, (parent's length +) length]`.
    """

    places: Tensor
    parent: Tensor | None
    mask: Tensor


def parts_of(prefixes: list[list[int]], branches: list[tuple[int, list[int]]], tokens: int) -> list[Part]:
    """How a pack of `tokens` tokens is attended to: prefixes, then the branches (parent, places) by length."""

    def filled(rows: list[list[int]]) -> Tensor:
        length = STEP * math.ceil(max(1, *map(len, rows)) / STEP)
        return torch.tensor([row + [tokens] * (length - len(row)) for row in rows])

    def causal(places: Tensor) -> Tensor:
        length = places.shape[1]
        return torch.full((length, length), float("-inf")).triu(1).expand(len(places), 1, 1, length, length)

    first = filled(prefixes)
    parts = [Part(first, None, causal(first))]
    hidden = torch.zeros(first.shape).masked_fill_(first == tokens, float("-inf"))
    groups: list[list[tuple[int, list[int]]]] = []
    for parent, places in sorted(branches, key=lambda branch: len(branch[1])):
        if not groups or len(places) > 1.25 * len(groups[-1][0][1]) + 8:
            groups.append([])
        groups[-1].append((parent, places))
    for group in groups:
        own, parent = filled([places for _, places in group]), torch.tensor([parent for parent, _ in group])
        far = hidden[parent][:, None, None, None].expand(-1, 1, 1, own.shape[1], -1)
        parts.append(Part(own, parent, torch.cat([far, causal(own)], -1)))
    return parts


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

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], parts: list[Part], back: Tensor) -> Tensor:
        """`[tokens, width]` to the same shape, before the output projection. `turn` holds the scale of scores too;
        `back` says where each token stands in the parts one after the other."""
        kv, dim, group = self.shape.kv_heads, self.shape.head_dim, self.shape.heads // self.shape.kv_heads
        tokens = x.shape[0]
        qkv = torch.cat(
            [
                rotate(self.q_proj(x).view(tokens, -1, dim), *turn)
                .view(tokens, kv, group, dim)
                .transpose(1, 2)
                .flatten(1),
                rotate(self.k_proj(x).view(tokens, -1, dim), *turn).flatten(1),
                self.v_proj(x),
            ],
            1,
        )
        qkv = F.pad(qkv, (0, 0, 0, 1))
        told, first = [], None
        for part in parts:
            rows, length = part.places.shape
            packed = qkv.index_select(0, part.places.flatten()).view(rows, length, group + 2, kv, dim)
            q, k, v = packed.permute(0, 3, 2, 1, 4).split((group, 1, 1), 2)
            k, v = k.squeeze(2), v.squeeze(2)
            if part.parent is None:
                first = (k, v)
            else:
                assert first is not None
                k, v = (torch.cat([a.index_select(0, part.parent), b], 2) for a, b in zip(first, (k, v), strict=True))
            scores = q.reshape(rows, kv, group * length, dim) @ k.transpose(2, 3)
            scores = scores.view(rows, kv, group, length, -1) + part.mask.to(scores.dtype)
            out = scores.softmax(-1).to(v.dtype).view(rows, kv, group * length, -1) @ v
            told.append(out.view(rows, kv, group, length, dim).permute(0, 3, 1, 2, 4).reshape(rows * length, -1))
        return torch.cat(told).index_select(0, back)


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
        self, x: Tensor, turn: tuple[Tensor, Tensor], parts: list[Part], back: Tensor, wanted: Tensor | None
    ) -> Tensor:
        """`[tokens, width]` to the same shape, or to `[wanted, width]`."""
        seen = self.self_attn(self.input_layernorm(x), turn, parts, back)
        if wanted is not None:
            x, seen = x[wanted], seen[wanted]
        x = x + self.self_attn.o_proj(seen)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, layers, final norm."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape)

    def forward(self, ids: Tensor, positions: Tensor, parts: list[Part], wanted: Tensor) -> Tensor:
        """`ids` and `positions` are `[tokens]`; gives the normed hidden states `[wanted, width]` of the wanted ones."""
        half = self.shape.head_dim // 2
        speed = self.shape.theta ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = positions[:, None, None].float() * speed
        scale = self.shape.head_dim**-0.25
        turn = (angle.cos() * scale, angle.sin() * scale)
        if torch.is_autocast_enabled("cpu"):
            turn = (turn[0].bfloat16(), turn[1].bfloat16())
        order = torch.cat([part.places.flatten() for part in parts])
        back = torch.zeros(len(ids) + 1, dtype=torch.long)
        back[order] = torch.arange(len(order))
        back = back[:-1]
        x = self.embed_tokens(ids)
        for index, layer in enumerate(self.layers):
            x = layer(x, turn, parts, back, wanted if index == len(self.layers) - 1 else None)
        return self.norm(x)


class Model(nn.Module):
    """The decoder and its untied output embedding."""

    def __init__(self, shape: Shape | None = None):
        super().__init__()
        self.shape = shape or Shape()
        self.model = Decoder(self.shape)
        self.lm_head = nn.Linear(self.shape.width, self.shape.vocabulary, bias=False)


def mixed_precision() -> torch.autocast:
    """Matrices in bfloat16, where the processor has it."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=HAS_BFLOAT16)


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


def match_rows(shape: Shape) -> tuple[list[int], list[int]]:
    """Rows of a head that RoPE hardly turns, in two halves: only they can carry a match over a distance."""
    half = shape.head_dim // 2
    slow = [i for i in range(half) if shape.theta ** (-i * 2 / shape.head_dim) < 0.004]
    return [j for i in slow[::2] for j in (i, i + half)], [j for i in slow[1::2] for j in (i, i + half)]


def look_back(attention: Attention, head: int, distance: int, strength: float = 7.0) -> None:
    """Let a head attend to the token at this distance, by the biases of queries and keys alone."""
    shape = attention.shape
    dim, half = shape.head_dim, shape.head_dim // 2
    kv = head // (shape.heads // shape.kv_heads)
    speed = shape.theta ** (-torch.arange(half) * 2 / dim)
    rows, keys = slice(head * dim, (head + 1) * dim), slice(kv * dim, (kv + 1) * dim)
    attention.k_proj.weight[keys] = 0
    attention.k_proj.bias[keys] = torch.cat([strength * torch.ones(half), torch.zeros(half)])
    attention.q_proj.weight[rows] = 0
    attention.q_proj.bias[rows] = strength * torch.cat([torch.cos(-distance * speed), torch.sin(-distance * speed)])


def _wire(model: Model, spin: Tensor) -> None:
    """Set the first two layers to a circuit that finds where the last tokens stood before, and says what came next.

    Layer 0 looks one, two, three and four tokens back. In layer 1 two pairs of heads ask where (this token, the one
    before) stood. A third asks where (this token, the one three before) stood: between a tool's name and its first
    argument stand the same three tokens in every call, and only that one still knows which tool it is.
    """
    shape = model.shape
    dim, width, group = shape.head_dim, shape.width, shape.heads // shape.kv_heads
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    this_pair, last_pair = match_rows(shape)
    reading, far = _orthonormal(width, dim).T, len(last_pair)
    written = _orthonormal(width, 2 * dim + 2 * far)
    back = [written[:, :dim], written[:, dim : 2 * dim]]
    for at in (2 * dim, 2 * dim + far):
        back.append(torch.zeros(width, dim))
        back[-1][:, last_pair] = written[:, at : at + far]
    last = shape.kv_heads - 1
    for head, distance in ((0, 1), (1, 2), (last * group, 3), (last * group + 1, 4)):
        look_back(first, head, distance)
        kv = head // group
        first.v_proj.weight[kv * dim : (kv + 1) * dim] = reading
        first.o_proj.weight[:, head * dim : (head + 1) * dim] = back[distance - 1]
    strength = 2.5
    for kv in range(shape.kv_heads):
        asked, answered = (back[2], back[3]) if kv == last else (back[0], back[1])
        k0, q0 = kv * dim, kv * group * dim
        second.q_proj.weight[q0 : q0 + dim] = 0
        second.k_proj.weight[k0 : k0 + dim] = 0
        for row in this_pair:
            second.q_proj.weight[q0 + row] = strength * reading[row]
            second.k_proj.weight[k0 + row] = strength * back[0].T[row]
        for row in last_pair:
            second.q_proj.weight[q0 + row] = strength * asked.T[row]
            second.k_proj.weight[k0 + row] = strength * answered.T[row]
        taken = _orthonormal(width, dim).T
        second.v_proj.weight[k0 : k0 + dim] = taken
        second.o_proj.weight[:, q0 : q0 + dim] = 3.0 * spin @ taken.T


def load_weights(model: Model, tensors: dict[str, Tensor]) -> None:
    """Take the weights of an exported folder or a checkpoint; the zero biases of the output projection are left out."""
    model.load_state_dict({k: v.float() for k, v in tensors.items() if not k.endswith("o_proj.bias")})
