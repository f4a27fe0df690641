"""One node's view of the others: who is there, who is lost, who is stuck. No network, no waiting: facts and a clock."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from node.cluster.addresses import addresses_of, from_here
from node.cluster.pipelines import Report, merge
from node.cluster.timing import Timing
from tandem.clock import Clock
from tandem.v1.membership_pb2 import (
    NODE_STATE_ALIVE,
    NODE_STATE_LOST,
    NODE_STATE_STUCK,
    NODE_STATE_UNSPECIFIED,
    HeartbeatRequest,
    Node,
    Pipeline,
)


class Admission(enum.Enum):
    """What becomes of a node that asks to join."""

    ADMITTED = enum.auto()
    FENCED = enum.auto()
    """This incarnation was declared lost or has a successor: it must begin a new one."""
    IN_USE = enum.auto()
    """A live process goes by that id under another incarnation."""


class Progress:
    """Tells a node that computes from one that only says so."""

    def __init__(self, clock: Clock, limit: float) -> None:
        self._clock = clock
        self._least = self._limit = limit
        self._completed = 0
        self._pending = 0
        self._since = clock.monotonic()

    def note(self, completed: int, pending: int, allowed: float = 0.0) -> None:
        """Takes the counters of forward passes that finished and that wait, and the seconds that the one under way may
        take: a long one is no stuck one."""
        if completed != self._completed or not self._pending:
            self._since = self._clock.monotonic()
        self._completed, self._pending = completed, pending
        self._limit = max(self._least, allowed)

    def stuck(self) -> str:
        """Why the node counts as stuck; empty while it does not."""
        idle = self._clock.monotonic() - self._since
        if not self._pending or idle < self._limit:
            return ""
        return f"{self._pending} forward passes pending and none finished for {self._limit:.0f} s"


@dataclass(slots=True)
class _Record:
    beat: HeartbeatRequest
    progress: Progress
    heard_at: float
    beats: int = 0
    broken_at: float | None = None
    broken_why: str = ""
    lost_at: float | None = None
    lost_why: str = ""
    address: str | None = None

    @property
    def incarnation(self) -> int:
        return self.beat.node.incarnation


class View:
    """The other nodes as this one sees them.

    A node enters by ``admit`` alone. It is live until it is lost, which is final for that incarnation: the next beat
    of it is refused and it has to come back under a higher one. Lost nodes stay in sight for a while.
    """

    def __init__(self, *, clock: Clock, timing: Timing) -> None:
        self._clock = clock
        self._timing = timing
        self._records: dict[str, _Record] = {}
        self._fences: dict[str, int] = {}
        self._departed: dict[str, tuple[str, float]] = {}

    def judge(self, node: Node) -> Admission:
        """What a join of this node deserves now; changes nothing."""
        if node.incarnation <= self._fences.get(node.node_id, -1):
            return Admission.FENCED
        record = self._records.get(node.node_id)
        if record is None or record.lost_at is not None or record.incarnation == node.incarnation:
            return Admission.ADMITTED
        if record.broken_at is not None:
            return Admission.ADMITTED if node.incarnation > record.incarnation else Admission.FENCED
        return Admission.IN_USE

    def admit(self, node: Node) -> bool:
        """Takes a node in, or hears again from one that is in. Returns whether it begins anew, with its own past gone.

        To be called after ``judge`` found it ADMITTED, or after it admitted this node.
        """
        record = self._records.get(node.node_id)
        anew = record is None or record.lost_at is not None or record.incarnation != node.incarnation
        if record is None or anew:
            record = _Record(
                beat=HeartbeatRequest(node=node),
                progress=Progress(self._clock, self._timing.stuck),
                heard_at=0.0,
                address=record.address if record is not None else None,
            )
            self._records[node.node_id] = record
            self._departed.pop(node.node_id, None)
        else:
            record.beat.node.CopyFrom(node)
        self._heard(record)
        return anew

    def hear(self, beat: HeartbeatRequest) -> bool:
        """Takes a heartbeat. False when it comes from nobody who was admitted, or from a lost incarnation."""
        node = beat.node
        record = self._records.get(node.node_id)
        if record is None or record.lost_at is not None or node.incarnation < record.incarnation:
            return False
        record.beat = beat
        record.beats += 1
        record.progress.note(beat.completed_steps, beat.pending_steps, beat.step_seconds)
        self._heard(record)
        return True

    def broke(self, node_id: str, why: str) -> None:
        """A connection to the node broke: it is lost soon, unless it is heard again."""
        record = self._records.get(node_id)
        if record is not None and record.lost_at is None and record.broken_at is None:
            record.broken_at, record.broken_why = self._clock.monotonic(), why

    def unreachable(self, node_id: str, why: str) -> bool:
        """The node did not answer a dial. True when it is lost by that, because its connection had broken before."""
        record = self._records.get(node_id)
        return record is not None and record.broken_at is not None and self.lose(node_id, why)

    def lose(self, node_id: str, why: str) -> bool:
        """Declares the node lost. True when it was live."""
        record = self._records.get(node_id)
        if record is None or record.lost_at is not None:
            return False
        self._lose(record, why)
        return True

    def remove(self, node_id: str, incarnation: int) -> bool:
        """That incarnation of the node left. True when it, or an earlier one, was here; a later one stays."""
        record = self._records.get(node_id)
        if record is None or record.incarnation > incarnation:
            return False
        del self._records[node_id]
        self._departed[node_id] = (record.beat.node.name, self._clock.monotonic())
        return True

    def tick(self) -> list[str]:
        """Looks at the clock; returns the ids of nodes that are lost since the last look."""
        now = self._clock.monotonic()
        lost = []
        for node_id, record in list(self._records.items()):
            if record.lost_at is not None:
                if now - record.lost_at > self._timing.lost:
                    del self._records[node_id]
            elif now - record.heard_at > self._timing.silence:
                self._lose(record, f"no heartbeat for {self._timing.silence:g} s")
                lost.append(node_id)
            elif record.broken_at is not None and now - record.broken_at > self._timing.suspicion:
                self._lose(record, record.broken_why)
                lost.append(node_id)
        for node_id, (_, left_at) in list(self._departed.items()):
            if now - left_at > self._timing.lost:
                del self._departed[node_id]
        return lost

    def excuse(self) -> None:
        """This process did not listen for a while: the others' silence begins now, and so does every suspicion."""
        for record in self._records.values():
            record.heard_at = self._clock.monotonic()
            if record.broken_at is not None:
                record.broken_at = record.heard_at

    def forgive(self) -> None:
        """This node was the one that was away: lost nodes may come back as they were."""
        self._fences.clear()

    def prefer(self, node_id: str, address: str) -> None:
        """Remembers the ``host:port`` that answered fastest."""
        record = self._records.get(node_id)
        if record is not None:
            record.address = address

    def known(self, node_id: str) -> bool:
        """Whether the node is in sight, live or lost."""
        return node_id in self._records

    def live(self, node_id: str) -> bool:
        """Whether the node is a member that answers."""
        record = self._records.get(node_id)
        return record is not None and record.lost_at is None

    def fenced(self, node_id: str) -> bool:
        """Whether this node declared that one lost and has not seen it come back."""
        return node_id in self._fences and not self.live(node_id)

    def beats(self, node_id: str) -> tuple[int, int]:
        """Incarnation of the node and how many beats of it were heard; zeros for strangers."""
        record = self._records.get(node_id)
        return (record.incarnation, record.beats) if record is not None else (0, 0)

    def addresses(self, node_id: str) -> tuple[str, ...]:
        """``host:port`` of what the node said of itself, the one that answered before first; empty for strangers."""
        record = self._records.get(node_id)
        if record is None:
            return ()
        best = (record.address,) if record.address is not None else ()
        return (*best, *addresses_of(record.beat.node))

    def departed(self, node_id: str) -> bool:
        """Whether the node left lately and did not come back."""
        return node_id in self._departed

    def ids(self) -> set[str]:
        """Every node in sight."""
        return set(self._records)

    def members(self) -> list[Node]:
        """The live nodes as this one sees them, by name."""
        return [node for node in self.nodes() if node.state != NODE_STATE_LOST]

    def nodes(self) -> list[Node]:
        """Every node in sight, with the state that this node gives it, by name."""
        records = sorted(self._records.values(), key=lambda record: (record.beat.node.name, record.beat.node.node_id))
        return [self._judged(record) for record in records]

    def pipelines(self, own_id: str, own: Iterable[Pipeline]) -> list[Pipeline]:
        """The pipelines of the cluster, those that this node tells itself included."""
        reports = [Report(own_id, lost=False, pipelines=tuple(own))]
        missing = {node_id: f"node {name or node_id} left the cluster" for node_id, (name, _) in self._departed.items()}
        for node_id, record in self._records.items():
            reports.append(Report(node_id, record.lost_at is not None, tuple(record.beat.pipelines)))
            if record.lost_at is not None:
                missing[node_id] = f"node {record.beat.node.name or node_id} is {record.lost_why}"
        return merge(reports, missing)

    def _heard(self, record: _Record) -> None:
        record.heard_at = self._clock.monotonic()
        record.broken_at, record.broken_why = None, ""

    def _lose(self, record: _Record, why: str) -> None:
        since = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)
        record.lost_at = self._clock.monotonic()
        record.lost_why = f"lost since {since:%Y-%m-%d %H:%M:%S} UTC: {why}"
        self._fences[record.beat.node.node_id] = record.incarnation

    def _judged(self, record: _Record) -> Node:
        node = from_here(record.beat.node, record.address)
        if record.lost_at is not None:
            node.state, node.state_reason = NODE_STATE_LOST, record.lost_why
        elif node.state in (NODE_STATE_UNSPECIFIED, NODE_STATE_ALIVE):
            stuck = record.progress.stuck()
            node.state = NODE_STATE_STUCK if stuck else NODE_STATE_ALIVE
            node.state_reason = stuck or node.state_reason
        return node
