"""The clocks that time-outs are measured with, in one object, so that a test can turn them by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Linux has a clock for it; on macOS it is CLOCK_MONOTONIC, which is not the one that Python calls monotonic there.
_BOOTTIME: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds of a clock that keeps counting while the machine sleeps and that nobody can set.

    ``time.monotonic`` stands still in sleep on macOS and Linux, ``time.time`` jumps when the date is corrected.
    """
    return time.clock_gettime(_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clock:
    """Three clocks in seconds: for time-outs, for noticing sleep, and for people (since the epoch)."""

    monotonic: Callable[[], float] = time.monotonic
    boottime: Callable[[], float] = boottime
    wall: Callable[[], float] = time.time


class SleepWatch:
    """Notices that this process did not run for a while: the machine slept, or somebody stopped the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.boottime()

    def gap(self) -> float:
        """Seconds since the last call (or since the start), sleep included."""
        now = self._clock.boottime()
        gap, self._last = now - self._last, now
        return gap
