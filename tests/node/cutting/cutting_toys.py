"""Models that do on purpose what real ones rarely do."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import KVCache

WIDTH, VOCABULARY = 8, 16


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def __call__(self, h: mx.array, cache: Any = None, extra: mx.array | None = None) -> Any:
        if cache is not None:
            keys, _ = cache.update_and_fetch(h[:, None], h[:, None])
            h = h + keys.sum(axis=(1, 2), keepdims=True)[:, 0]
        if extra is not None:
            h = h + extra
        return mx.tanh(self.linear(h))


class Toy(nn.Module):
    """``layers`` may be any list of layers; subclasses say how they are called."""

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = [Layer() for _ in range(layers)]
        self.norm = nn.RMSNorm(WIDTH)

    def make_cache(self) -> list[Any]:
        return [KVCache() for _ in self.layers]

    def run(self, h: mx.array, cache: list[Any]) -> mx.array:
        for layer, own in zip(self.layers, cache, strict=True):
            h = layer(h, own)
        return h

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        return self.embed.as_linear(self.norm(self.run(self.embed(tokens), cache)))


class Looped(Toy):
    """Runs its layers twice, and caches only the first time."""

    def run(self, h: mx.array, cache: list[Any]) -> mx.array:
        h = super().run(h, cache)
        for layer in self.layers:
            h = layer(h)
        return h


class Bypassed(Toy):
    """Uses what is inside its layers and never calls them."""

    def run(self, h: mx.array, cache: list[Any]) -> mx.array:
        for layer in self.layers:
            h = mx.tanh(layer.linear(h))
        return h


class Repeated(Toy):
    """One layer object stands in the list twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [self.layers[0], self.layers[1], self.layers[0]]


class Rewritten(Toy):
    """Two layers write to one cache."""

    def run(self, h: mx.array, cache: list[Any]) -> mx.array:
        for layer in self.layers:
            h = layer(h, cache[0])
        return h


class TokensInHead(Toy):
    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        return super().__call__(tokens, cache) + self.embed.as_linear(self.embed(tokens))


class Mixed(Toy):
    """The third layer gets a value made of the tokens and of what the second made."""

    def run(self, h: mx.array, cache: list[Any]) -> mx.array:
        start = h
        for i, (layer, own) in enumerate(zip(self.layers, cache, strict=True)):
            h = layer(h, own, start * h if i == 2 else None)
        return h


class LateSkip(Toy):
    """A skip from the first layer that appears only in long prompts."""

    def run(self, h: mx.array, cache: list[Any]) -> mx.array:
        first = None
        for i, (layer, own) in enumerate(zip(self.layers, cache, strict=True)):
            h = layer(h, own, first if i == 3 and h.shape[1] > 100 else None)
            first = h if first is None else first
        return h


class OpaqueResult(Toy):
    """Its layers return a cache."""

    class Odd(Layer):
        def __call__(self, h: mx.array, cache: Any = None, extra: mx.array | None = None) -> Any:
            return super().__call__(h, cache), cache

    def __init__(self) -> None:
        super().__init__()
        self.layers = [self.Odd() for _ in range(3)]

    def run(self, h: mx.array, cache: list[Any]) -> mx.array:
        for layer, own in zip(self.layers, cache, strict=True):
            h, _ = layer(h, own)
        return h
