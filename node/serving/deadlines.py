"""How long a step may take before its stage counts as lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from node.engine.frames import Step
from tandem.errors import StageLostError


class StepDeadlines:
    """How long a step may take: ten times its moving average, at least 5 s, prefill by size; steps that wait behind
    prefill are given that time too."""

    _FLOOR = 5.0
    _FACTOR = 10.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._decode = 0.05
        self._prefill_per_token = 0.02
        self._ahead = 0.0

    def decode(self) -> StepTimer:
        """A timer for a decode step."""
        return StepTimer(self, self._clock, max(self._FLOOR, self._FACTOR * self._decode) + self._ahead, 0)

    def prefill(self, tokens: int) -> StepTimer:
        """A timer for a prefill step of that many tokens."""
        seconds = max(self._FLOOR, self._FACTOR * self._prefill_per_token * tokens)
        timer = StepTimer(self, self._clock, seconds + self._ahead, tokens)
        self._ahead += seconds
        timer.ahead = seconds
        return timer

    def learn(self, tokens: int, seconds: float) -> None:
        """Notes how long a step took."""
        if tokens:
            self._prefill_per_token += 0.1 * (seconds / tokens - self._prefill_per_token)
        else:
            self._decode += 0.1 * (seconds - self._decode)

    def passed(self, ahead: float) -> None:
        """A prefill step is no longer ahead of others."""
        self._ahead = max(0.0, self._ahead - ahead)


class StepTimer:
    """Times one step and bounds the wait for it."""

    def __init__(self, owner: StepDeadlines, clock: Callable[[], float], seconds: float, tokens: int) -> None:
        self._owner = owner
        self._clock = clock
        self._seconds = seconds
        self._tokens = tokens
        self._begin = clock()
        self.ahead = 0.0

    def __enter__(self) -> StepTimer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._owner.passed(self.ahead)

    async def wait(self, arrival: asyncio.Future[Step]) -> Step:
        """The completed step.

        Raises:
            StageLostError: it did not come in time.
        """
        try:
            async with asyncio.timeout(self._seconds):
                step = await arrival
        except TimeoutError as error:
            raise StageLostError(f"no stage answered within {self._seconds:.0f} s") from error
        finally:
            self._owner.passed(self.ahead)
        self._owner.learn(self._tokens, self._clock() - self._begin)
        return step
