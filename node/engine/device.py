"""What this machine is to a planner: its device, its memory, and how fast memory is read."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib.metadata import version

import mlx.core as mx
import psutil

_PROBE_BYTES = 64 << 20
_HEADROOM = 0.75
"""Share of the machine's memory that weights and caches take when nobody says else."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Measured, not advertised; bandwidth in bytes per second."""

    device: str
    memory_bytes: int
    memory_bandwidth: int
    mlx_version: str
    mlx_lm_version: str


def measure_device(memory_bytes: int | None = None) -> DeviceFacts:
    """Measures this machine; for the MLX thread. ``memory_bytes`` overrides what weights and caches may take."""
    return DeviceFacts(
        _name(),
        memory_bytes or _usable_memory(),
        _bandwidth(),
        version("mlx"),
        version("mlx-lm"),
    )


def _usable_memory() -> int:
    if mx.metal.is_available():
        # What Metal may wire without swapping; see mx.device_info.
        recommended = mx.device_info().get("max_recommended_working_set_size")
        if isinstance(recommended, int) and recommended > 0:
            return recommended
    return int(psutil.virtual_memory().total * _HEADROOM)


def _name() -> str:
    if mx.metal.is_available():
        return str(mx.device_info().get("device_name", "Apple GPU"))
    return f"CPU ({platform.processor() or platform.machine()})"


def _bandwidth() -> int:
    """Reads and writes one array a few times; the best time counts."""
    source = mx.zeros((_PROBE_BYTES // 4,), mx.float32)
    mx.eval(source)
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        mx.eval(source + 1.0)
        best = min(best, time.perf_counter() - begin)
    mx.clear_cache()
    return int(2 * _PROBE_BYTES / best)
