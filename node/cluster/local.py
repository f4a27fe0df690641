"""What a node knows of itself, and how the others get to see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from node.cluster.addresses import only_loopback
from node.cluster.identity import Identity
from node.cluster.timing import Timing
from node.cluster.view import Progress
from tandem.clock import Clock
from tandem.v1.membership_pb2 import (
    NODE_STATE_ALIVE,
    NODE_STATE_STUCK,
    NODE_STATE_UNSPECIFIED,
    HeartbeatRequest,
    Node,
    NodeCapabilities,
    NodeState,
    Pipeline,
)
from tandem.v1.types_pb2 import Endpoint


@dataclass(frozen=True, slots=True)
class LocalState:
    """What a node tells of itself with each beat."""

    capabilities: NodeCapabilities
    state: NodeState.ValueType
    state_reason: str
    completed_steps: int
    pending_steps: int
    pipelines: tuple[Pipeline, ...]
    step_seconds: float = 0.0
    """That the forward pass under way may take; others are told, so that a long one is not taken for a stuck one."""


class LocalNode:
    """This node: its identity, its addresses as they change, and its state as the daemon tells it."""

    def __init__(
        self,
        *,
        identity: Identity,
        name: str,
        version: str,
        endpoints: Callable[[], Sequence[Endpoint]],
        state: Callable[[], LocalState],
        clock: Clock,
        timing: Timing,
    ) -> None:
        self.identity = identity
        self.name = name
        self.version = version
        self._ask_endpoints = endpoints
        self._endpoints = self._candidate = tuple(endpoints())
        self._state = state
        self._clock = clock
        self._interval = timing.interfaces
        self._last_look = clock.monotonic()
        self._progress = Progress(clock, timing.stuck)

    def beat(self, known: Sequence[Node] = ()) -> HeartbeatRequest:
        """What this node tells of itself now."""
        local = self._state()
        self._progress.note(local.completed_steps, local.pending_steps, local.step_seconds)
        state, reason = local.state, local.state_reason
        if state in (NODE_STATE_UNSPECIFIED, NODE_STATE_ALIVE):
            stuck = self._progress.stuck()
            state = NODE_STATE_STUCK if stuck else NODE_STATE_ALIVE
            reason = stuck or reason
        node = Node(
            node_id=self.identity.node_id,
            incarnation=self.identity.incarnation,
            name=self.name,
            endpoints=self._endpoints,
            capabilities=local.capabilities,
            state=state,
            state_reason=reason,
            version=self.version,
        )
        return HeartbeatRequest(
            node=node,
            completed_steps=local.completed_steps,
            pending_steps=local.pending_steps,
            pipelines=local.pipelines,
            known=known,
            step_seconds=local.step_seconds,
        )

    def look(self, *, now: bool = False) -> bool:
        """Looks at this machine's addresses when it is time to (or at once); True when they are others than before.

        A change counts when two looks agree on it, because interfaces flap while they come up. A machine that loses
        its last address keeps what it had until it has another.
        """
        if not now and self._clock.monotonic() - self._last_look < self._interval:
            return False
        self._last_look = self._clock.monotonic()
        before, self._candidate = self._candidate, tuple(self._ask_endpoints())
        settled = now or self._candidate == before
        if not settled or self._candidate == self._endpoints or only_loopback(self._candidate):
            return False
        self._endpoints = self._candidate
        return True
