"""The sizes of the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The sizes of the network. `head_dim` follows from width and heads."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    hidden: int = 640
    theta: float = 1e6
    epsilon: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads
