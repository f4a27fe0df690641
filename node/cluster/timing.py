"""How long the members of a cluster wait for each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds. The defaults show a killed node within 2 s, a frozen one or a cut cable within 5 s."""

    beat: float = 0.5
    """Between two heartbeats on one stream."""
    tick: float = 0.25
    """Between two looks at the clock."""
    silence: float = 3.5
    """Without a heartbeat until a node is lost."""
    suspicion: float = 1.0
    """From a broken connection until a node is lost, if it does not answer a new one."""
    stuck: float = 4.0
    """With forward passes pending and none finished until a node is stuck, if the one under way may not take longer."""
    settle: float = 5.0
    """After a start, for the members of before to be heard again, until this node takes its view for whole."""
    lost: float = 600.0
    """For which a lost node stays in sight."""
    asleep: float = 10.0
    """Between two ticks, after which this process takes itself for one that slept."""
    stalled: float = 1.5
    """Between two ticks, after which the silence of others is not held against them: nobody was listening."""
    interfaces: float = 5.0
    """Between two looks at this machine's addresses."""
    probe: float = 2.0
    """For an address to answer a probe."""
    join: float = 4.0
    """For a member to decide about a joiner; above ``verdict``."""
    verdict: float = 1.6
    """For a member to find out whether the present owner of a node id lives; above two beats."""
    retry: float = 0.2
    """Before the second dial of a node; doubles with each failure."""
    retry_cap: float = 5.0
    """Between two dials at most."""
    stubborn: float = 12.0
    """For which a node does not believe a weaker one that gave it up; above the longest time between two dials."""
    goodbye: float = 1.0
    """For telling everybody that this node leaves."""
