"""How long a step may take before its stage counts as lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from node.engine.frames import Step
from node.engine.pace import Pace
from tandem.errors import StageLostError


class StepDeadlines:
    """How long a step may take: ten times its moving average, at least 5 s, prefill by size; steps that wait behind
    prefill are given that time too."""

    _FLOOR = 5.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace = Pace()
        self._ahead = 0.0

    def decode(self) -> StepTimer:
        """A timer for a decode step."""
        return StepTimer(self, self._clock, max(self._FLOOR, self._pace.allowed(1)) + self._ahead, 1)

    def prefill(self, tokens: int) -> StepTimer:
        """A timer for a prefill step of that many tokens."""
        seconds = max(self._FLOOR, self._pace.allowed(tokens))
        timer = StepTimer(self, self._clock, seconds + self._ahead, tokens)
        self._ahead += seconds
        timer.ahead = seconds
        return timer

    def learn(self, tokens: int, seconds: float) -> None:
        """Notes how long a step took."""
        self._pace.learn(tokens, seconds)

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
        # A plain timer: asyncio.timeout takes twice as long, between the arrival of a step and the next one.
        overdue = asyncio.get_running_loop().call_later(self._seconds, self._give_up, arrival)
        try:
            step = await arrival
        finally:
            overdue.cancel()
            self._owner.passed(self.ahead)
        self._owner.learn(self._tokens, self._clock() - self._begin)
        return step

    def _give_up(self, arrival: asyncio.Future[Step]) -> None:
        if not arrival.done():
            arrival.set_exception(StageLostError(f"no stage answered within {self._seconds:.0f} s"))
