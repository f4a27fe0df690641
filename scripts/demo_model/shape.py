"""The sizes of the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 6
    heads: int = 6
    kv_heads: int = 3
    head_dim: int = 64
    hidden: int = 640
    theta: float = 1e6
    epsilon: float = 1e-6
