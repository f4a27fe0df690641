"""How long a token's computing took, in the very process that did it, and what is left of the token's time."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from node.engine import frames
from node.engine.head import HeadShard
from node.engine.shard import Shard

TOKENS: Final = 96
"""Tokens of a turn of a ring."""
FIRST_TOKEN: Final = 40
"""What each turn begins with."""
_SKIPPED: Final = 8
"""The first ones, which are not counted."""


@dataclass
class Clocks:
    """When computing began and ended: of the head's turns, and of the other stage's decode steps."""

    turns: list[tuple[float, float]] = field(default_factory=list)
    steps: list[tuple[float, float]] = field(default_factory=list)

    def install(self) -> None:
        """Puts clocks around the two entry points of the engine, for the life of the process."""
        turn, apply = HeadShard.turn, Shard.apply

        def timed_turn(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            result = turn(*arguments, **named)
            self.turns.append((begin, time.perf_counter()))
            return result

        def timed_apply(shard: Shard, entry: frames.Entry) -> frames.Entry:
            begin = time.perf_counter()
            result = apply(shard, entry)
            if isinstance(entry, frames.Step):
                self.steps.append((begin, time.perf_counter()))
            return result

        HeadShard.turn = timed_turn  # type: ignore[method-assign]
        Shard.apply = timed_apply  # type: ignore[method-assign, assignment]

    def take(self) -> bytes:
        """What was measured since the last time, as JSON."""
        text = json.dumps({"turns": self.turns, "steps": self.steps}).encode()
        self.turns.clear()
        self.steps.clear()
        return text


@dataclass(frozen=True)
class Figures:
    """Medians of one turn of one ring, in seconds per token: overhead per hop, and computing."""

    overhead: float
    compute: float

    @classmethod
    def of(cls, turns: Sequence[Sequence[float]], steps: Sequence[Sequence[float]]) -> Figures:
        """From the head's turns, of which the last sends no step, and the steps between them."""
        if len(turns) != len(steps) + 1 or len(steps) < TOKENS - 1:
            raise SystemExit(f"{len(turns)} turns and {len(steps)} steps do not belong together")
        compute = [turns[k][1] - turns[k][0] + steps[k][1] - steps[k][0] for k in range(len(steps))]
        periods = [turns[k + 1][0] - turns[k][0] for k in range(len(steps))]
        overheads = [(period - busy) / 2 for period, busy in zip(periods, compute, strict=True)]
        return cls(statistics.median(overheads[_SKIPPED:]), statistics.median(compute[_SKIPPED:]))
