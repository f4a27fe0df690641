"""The two sides of the split: what training may see, and what is kept for evaluation.

A string or a number is *held out* by a checksum of its text: training never uses it as a value or as a tool's name,
evaluation uses nothing else. What stands in the hand-written requests is held out too.
"""

from __future__ import annotations

import functools
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

HANDWRITTEN = Path(__file__).with_name("handwritten.jsonl")


@functools.cache
def reserved() -> frozenset[str]:
    """Every tool name, string value, number and request of the hand-written file, casefolded (empty without it)."""
    out: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)
        elif not isinstance(value, bool) and value is not None:
            out.add(str(value).casefold())

    if HANDWRITTEN.exists():
        for line in HANDWRITTEN.read_text().splitlines():
            case = json.loads(line)
            out.update(tool["name"].casefold() for tool in case["tools"])
            for call in case["calls"]:
                collect(call["arguments"])
            collect([part for use in case["uses"] for part in use.split("|") if len(part) > 3])
    return frozenset(out)


def held_out(value: object) -> bool:
    """Whether a value or a tool's name is kept for evaluation: one in eight, by checksum, and all hand-written ones."""
    text = str(value).casefold()
    return zlib.crc32(text.encode()) % 8 == 5 or text in reserved()


class Source(random.Random):
    """Random choices of one side of the split: `held` gives what training never sees, otherwise what it may see."""

    def __init__(self, seed: int, held: bool = False):
        super().__init__(seed)
        self.held = held

    def maybe(self, chance: float) -> bool:
        """True with the given probability."""
        return self.random() < chance

    def fresh(self, make: Callable[[], T]) -> T:
        """Call `make` until its result lies on this side of the split."""
        for _ in range(2000):
            value = make()
            if held_out(value) == self.held:
                return value
        raise ValueError(f"{make} gives nothing on the side held={self.held}")
