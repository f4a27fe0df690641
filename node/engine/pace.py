"""How long forward passes take here, and how long one may take before something is wrong."""

from __future__ import annotations

from typing import Final

_FACTOR: Final = 10.0
_WEIGHT: Final = 0.1


class Pace:
    """Moving averages in seconds: of decode steps, and per position of longer ones."""

    def __init__(self) -> None:
        self._decode = 0.05
        self._per_position = 0.02

    def allowed(self, positions: int) -> float:
        """Seconds that a pass over so many positions of a row may take: ten times what such a pass takes."""
        return _FACTOR * (self._per_position * positions if positions > 1 else self._decode)

    def learn(self, positions: int, seconds: float) -> None:
        """Notes how long a pass over so many positions took."""
        if positions > 1:
            self._per_position += _WEIGHT * (seconds / positions - self._per_position)
        else:
            self._decode += _WEIGHT * (seconds - self._decode)
