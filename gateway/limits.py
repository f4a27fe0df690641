"""The figures that bound a gateway's work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds and deadlines of one gateway; every duration is in seconds."""

    body_bytes: int = 32 * 1024 * 1024
    """A larger request is answered with 413."""
    upload: float = 120.0
    """Time that a request's body may take to arrive."""
    heartbeat: float = 5.0
    """Longest silence on a stream before an empty chunk is sent."""
    accept: float = 60.0
    """Time a head may take to render a prompt and accept it."""
    idle: float = 600.0
    """Time a head may take between two messages, prefill progress included."""
    load_idle: float = 300.0
    """Time a load may go without progress."""
    dial: float = 2.0
    """Time a node may take to accept a connection."""
    shutdown: float = 2.0
    """Time that running requests have when the gateway stops."""
    choices: int = 64
    """Generations that one request may ask for, over all its prompts."""
