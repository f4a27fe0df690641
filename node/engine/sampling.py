"""From logits to tokens. A random draw depends on (seed, choice, position) alone.

mlx-lm's samplers draw from global state, so what one request gets would depend on what else is in the batch; here
each row brings a key of its own. Order: penalties and bias, then the grammar's mask, then temperature, top-k, top-p,
min-p, then the draw. Log probabilities are those of the masked distribution before temperature.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import mlx.core as mx

log = logging.getLogger(__name__)

_MASKED = -1e9
_LEAST_LOGPROB = -9999.0
"""What is reported for a token that the mask excludes: JSON has no infinity."""


class Constraint(Protocol):
    """What one sequence may say next. Called from the MLX thread alone; its state is a pure function of the tokens."""

    def mask(self) -> bytes | None:
        """One bit per token, lowest first: those that may come next; None when all may.

        Waits for what ``accept`` began to compute elsewhere. Tokens beyond the end of the mask may not come.
        """

    def accept(self, token: int) -> bool:
        """Takes a token that was drawn. False: it may not stand, nothing was taken; draw again under ``mask``."""

    def forced(self) -> tuple[int, ...]:
        """The tokens that must come next, in order; empty when there is a choice. Takes nothing."""

    def runs_ahead(self) -> bool:
        """Whether any token may come next and would be accepted, so that its draw need not wait to be read."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one sequence samples; the defaults are greedy.

    ``repetition_penalty`` looks at prompt and answer, ``frequency_penalty`` and ``presence_penalty`` at the answer
    alone. ``top_k`` 0 means all. ``top_logprobs`` counts alternatives to report when ``logprobs`` is set.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    choice: int = 0
    logprobs: bool = False
    top_logprobs: int = 0

    @property
    def greedy(self) -> bool:
        """Whether the best token is taken."""
        return self.temperature == 0.0

    @property
    def looks_back(self) -> bool:
        """Whether the next draw needs the tokens before it on the host."""
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probability of a sampled token, and of the best alternatives, best first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(slots=True)
class RowSampler:
    """The sampling state of one sequence: its parameters, what its penalties look back at, and its constraint."""

    params: SamplingParams
    prompt: frozenset[int] = frozenset()
    counts: Counter[int] = field(default_factory=Counter)
    constraint: Constraint | None = None
    error: str = ""
    """What broke in the constraint: the sequence then fails, and no other."""

    @classmethod
    def for_prompt(
        cls,
        params: SamplingParams,
        prompt: Sequence[int],
        emitted: Sequence[int] = (),
        constraint: Constraint | None = None,
    ) -> RowSampler:
        """A sampler that has seen ``prompt`` and, after a takeover, the tokens ``emitted`` so far."""
        seen = frozenset(prompt) if params.repetition_penalty != 1.0 else frozenset()
        return cls(params, seen, Counter(emitted), constraint)

    def accept(self, token: int) -> bool:
        """Takes a token that was drawn; False when the constraint wants another one in its place, or broke."""
        if self.constraint is not None:
            try:
                if self.error or not self.constraint.accept(token):
                    return False
            except Exception as error:  # noqa: BLE001 - becomes the sequence's failure
                self._broke(error)
                return False
        if self.params.looks_back:
            self.counts[token] += 1
        return True

    def runs_ahead(self) -> bool:
        """Whether the draw after the next may be launched before the next has been read."""
        return not self.params.looks_back and (self.constraint is None or self.constraint.runs_ahead())

    def mask(self) -> bytes | None:
        """The constraint's mask; None when every token may come."""
        if self.constraint is None or self.error:
            return None
        try:
            return self.constraint.mask()
        except Exception as error:  # noqa: BLE001 - becomes the sequence's failure
            self._broke(error)
            return None

    def forced(self) -> tuple[int, ...]:
        """The tokens that must come next."""
        if self.constraint is None or self.error:
            return ()
        try:
            return self.constraint.forced()
        except Exception as error:  # noqa: BLE001 - becomes the sequence's failure
            self._broke(error)
            return ()

    def _broke(self, error: Exception) -> None:
        log.exception("a constraint broke")
        self.error = f"{type(error).__name__}: {error}"

    def report_forced(self, token: int) -> TokenLogprobs | None:
        """What is reported for a token that had to come."""
        if not self.params.logprobs:
            return None
        return TokenLogprobs(0.0, ((token, 0.0),) if self.params.top_logprobs else ())

    def key(self, position: int) -> tuple[int, int]:
        """The random key for the token at ``position``: two words of 32 bits."""
        text = f"{self.params.seed}/{self.params.choice}/{position}".encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")

    def adjust(self, logits: mx.array) -> mx.array:
        """Penalties and bias on one row ``[vocabulary]``."""
        params = self.params
        if params.repetition_penalty != 1.0 and (self.prompt or self.counts):
            ids = mx.array(sorted(self.prompt | self.counts.keys()))
            seen = logits[ids]
            logits[ids] = mx.where(seen < 0, seen * params.repetition_penalty, seen / params.repetition_penalty)
        if self.counts and (params.frequency_penalty or params.presence_penalty):
            pairs = sorted(self.counts.items())
            ids = mx.array([token for token, _ in pairs])
            cost = mx.array([count * params.frequency_penalty + params.presence_penalty for _, count in pairs])
            logits[ids] = logits[ids] - cost.astype(logits.dtype)
        if params.logit_bias:
            ids = mx.array([token for token, _ in params.logit_bias])
            logits[ids] = logits[ids] + mx.array([bias for _, bias in params.logit_bias]).astype(logits.dtype)
        return logits


class Draw:
    """One lazy draw for a batch of rows; nothing is evaluated before ``read``."""

    def __init__(self, logits: mx.array, samplers: Sequence[RowSampler], positions: Sequence[int]) -> None:
        """``logits`` is ``[rows, vocabulary]``; ``positions`` are those of the tokens to be drawn."""
        if any(sampler.params.looks_back or sampler.params.logit_bias for sampler in samplers):
            logits = mx.stack([sampler.adjust(row) for sampler, row in zip(samplers, logits, strict=True)])
        logits = _masked(logits, [sampler.mask() for sampler in samplers])
        self.tokens = _tokens(logits, samplers, positions)
        self._samplers = samplers
        self._logprobs = self._top = None
        if any(sampler.params.logprobs for sampler in samplers):
            scores = logits.astype(mx.float32)
            scores = mx.maximum(scores - mx.logsumexp(scores, axis=-1, keepdims=True), _LEAST_LOGPROB)
            count = min(max(sampler.params.top_logprobs for sampler in samplers), scores.shape[-1])
            self._logprobs = mx.take_along_axis(scores, self.tokens[:, None], axis=-1)[:, 0]
            if count:
                best = mx.argsort(-scores, axis=-1)[:, :count]
                self._top = (best, mx.take_along_axis(scores, best, axis=-1))

    @property
    def arrays(self) -> list[mx.array]:
        """What must be evaluated for ``read``."""
        return [self.tokens, *([] if self._logprobs is None else [self._logprobs]), *(self._top or ())]

    def read(self) -> list[tuple[int, TokenLogprobs | None]]:
        """Waits for the device: each row's token, with its log probabilities where they were asked for."""
        tokens: list[int] = self.tokens.tolist()  # type: ignore[assignment]
        if self._logprobs is None:
            return [(token, None) for token in tokens]
        logprobs: list[float] = self._logprobs.tolist()  # type: ignore[assignment]
        best: list[list[int]] = self._top[0].tolist() if self._top else [[] for _ in tokens]  # type: ignore[assignment]
        scores: list[list[float]] = self._top[1].tolist() if self._top else [[] for _ in tokens]  # type: ignore[assignment]
        out: list[tuple[int, TokenLogprobs | None]] = []
        for row, sampler in enumerate(self._samplers):
            if not sampler.params.logprobs:
                out.append((tokens[row], None))
                continue
            count = sampler.params.top_logprobs
            top = tuple(zip(best[row][:count], scores[row][:count], strict=True))
            out.append((tokens[row], TokenLogprobs(logprobs[row], top)))
        return out


def _masked(logits: mx.array, masks: Sequence[bytes | None]) -> mx.array:
    """``logits`` ``[rows, vocabulary]`` with minus infinity where a row's mask has no bit."""
    if all(mask is None for mask in masks):
        return logits
    vocabulary = logits.shape[-1]
    width = (vocabulary + 7) // 8
    packed = b"".join(b"\xff" * width if mask is None else mask[:width].ljust(width, b"\0") for mask in masks)
    bits = mx.array(cast(Any, memoryview(packed))).reshape(len(masks), width, 1)
    allowed = (bits >> mx.arange(8, dtype=mx.uint8)) & 1
    return mx.where(allowed.reshape(len(masks), -1)[:, :vocabulary] == 1, logits, -mx.inf)


def _tokens(logits: mx.array, samplers: Sequence[RowSampler], positions: Sequence[int]) -> mx.array:
    random = [row for row, sampler in enumerate(samplers) if not sampler.params.greedy]
    if not random:
        return mx.argmax(logits, axis=-1)
    keys = mx.array([samplers[row].key(positions[row]) for row in random], dtype=mx.uint32)
    chosen = logits if len(random) == len(samplers) else logits[mx.array(random)]
    scores = _filtered(chosen, [samplers[row].params for row in random])
    # One key per row, each over a flat row: the same numbers whatever the batch is.
    drawn = mx.vmap(lambda row, key: mx.random.categorical(row, key=key))(scores, keys)
    if len(random) == len(samplers):
        return drawn
    tokens = mx.argmax(logits, axis=-1)
    tokens[mx.array(random)] = drawn.astype(tokens.dtype)
    return tokens


def _filtered(logits: mx.array, params: Sequence[SamplingParams]) -> mx.array:
    """Scaled scores ``[rows, vocabulary]`` in float32 with what top-k, top-p and min-p exclude masked."""
    column = [[p.temperature] for p in params]
    scores = logits.astype(mx.float32) / mx.array(column)
    vocabulary = scores.shape[-1]
    if all(p.top_p >= 1.0 and p.min_p == 0.0 and not 0 < p.top_k < vocabulary for p in params):
        return scores
    ordered = -mx.sort(-scores, axis=-1)
    weights = mx.softmax(ordered, axis=-1)
    above = mx.cumsum(weights, axis=-1) - weights
    keep = above < mx.array([[p.top_p] for p in params])
    keep = keep & (weights >= mx.array([[p.min_p] for p in params]) * weights[:, :1])
    keep = keep & (mx.arange(vocabulary) < mx.array([[p.top_k if p.top_k > 0 else vocabulary] for p in params]))
    count = mx.maximum(keep.sum(axis=-1, keepdims=True), 1)
    threshold = mx.take_along_axis(ordered, count - 1, axis=-1)
    return mx.where(scores < threshold, _MASKED, scores)
