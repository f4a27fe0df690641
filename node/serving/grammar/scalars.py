"""Strings, numbers and counts, from the keywords of a schema."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from node.serving.grammar import patterns
from node.serving.grammar.merge import Keywords
from node.serving.grammar.nodes import NEVER, Node, Number, Text

Warn = Callable[[str, str], None]
"""Says where something had to be left out, and what."""

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
# Counts beyond it are as good as none.
_LARGEST = 1_000_000_000


def read_text(schema: Keywords, where: str, warn: Warn) -> Node:
    """The string that the keywords allow."""
    low, high = count(schema, "minLength", where, warn), count(schema, "maxLength", where, warn)
    if high is not None and high < (low or 0):
        return NEVER
    found = []
    for pattern in schema.get("patterns", ()):
        try:
            found.append(patterns.search(str(pattern)))
        except patterns.PatternError as error:
            warn(where, f"pattern cannot be kept: {error}")
    for name in schema.get("formats", ()):
        known = patterns.FORMATS.get(name) if isinstance(name, str) else None
        if known is None:
            warn(where, f"format {name!r} is not known")
        else:
            found.append(known)
    kept = tuple(pattern for pattern in dict.fromkeys(found) if pattern != patterns.ANY * 2)
    return Text(low or 0, high, kept, where=where)


def read_number(schema: Keywords, where: str, warn: Warn, *, integer: bool) -> Node:
    """The number that the keywords allow."""
    bounds: dict[str, Any] = {}
    for key in _BOUNDS:
        value = schema.get(key)
        if key in schema and (isinstance(value, bool) or not isinstance(value, (int, float))):
            warn(where, f"{key} cannot be kept")
        elif value is not None and math.isfinite(value):
            bounds[key] = value
        elif value is not None and (value > 0) == ("inimum" in key):
            return NEVER
    step = bounds.get("multipleOf")
    if step is not None and step <= 0:
        warn(where, "multipleOf is not positive")
        step = None
    if step is not None and float(step).is_integer():
        # Said of integers, for the lexer trips over digits that only a step of a number ends.
        integer, step = True, int(step)
    low, low_open = _tighter(bounds, "minimum", "exclusiveMinimum", 1)
    high, high_open = _tighter(bounds, "maximum", "exclusiveMaximum", -1)
    if integer:
        if low is not None:
            low, low_open = math.floor(low) + 1 if low_open else math.ceil(low), False
        if high is not None:
            high, high_open = math.ceil(high) - 1 if high_open else math.floor(high), False
    if low is not None and high is not None:
        if low > high or (low == high and (low_open or high_open)):
            return NEVER
        if step is not None and not _has_multiple(low, high, step, low_open, high_open):
            return NEVER
    return Number(integer, low, high, low_open, high_open, step, where)


def count(schema: Keywords, key: str, where: str, warn: Warn) -> int | None:
    """A keyword that counts; None where it says nothing."""
    value = schema.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value < _LARGEST):
        return None if value is None else max(value, 0 if key.startswith("min") else -1)
    if isinstance(value, bool) or not isinstance(value, int) or key.startswith("min"):
        warn(where, f"{key} cannot be kept")
    return None


def can_be_written(value: Any) -> bool:
    """Whether UTF-8 and JSON can hold the value."""
    if isinstance(value, str) and value.isascii():
        return True
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _tighter(bounds: Mapping[str, Any], closed: str, opened: str, sign: int) -> tuple[Any, bool]:
    one, other = bounds.get(closed), bounds.get(opened)
    if other is None or (one is not None and one * sign > other * sign):
        return one, False
    return other, True


def _has_multiple(low: float, high: float, step: float, low_open: bool, high_open: bool) -> bool:
    first = math.ceil(low / step) * step
    if low_open and first <= low:
        first += step
    return first < high or (first == high and not high_open)
