"""Which sequence runs when: admission, chunked prefill, lanes of decoding rows, steps in flight.

Prefill goes round robin over the prompts that were admitted, chunk by chunk, so that a short prompt does not wait for
a long one; lanes take their turns in between, because everything queues at the one MLX thread. As many lanes as the
ring has stages keep every stage busy.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from node.engine.frames import CloseSequence, Entry, OpenSequence, SpanError, Step
from node.engine.head import HeadShard, Left, Sample
from node.engine.sampling import RowSampler
from node.engine.worker import Worker
from node.serving.deadlines import StepDeadlines, StepTimer
from node.serving.ring import Ring
from node.serving.ticket import Client, Limits, SchedulerStatistics, Ticket
from tandem.errors import OverloadedError, StageLostError, TandemError, UnavailableError, first_of

_GROWTH = 1024
"""Positions by which a reservation grows."""


@dataclass(eq=False, slots=True)
class _Lane:
    number: int
    rows: dict[int, Ticket] = field(default_factory=dict)
    joining: list[Ticket] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Scheduler:
    """Drives the sequences of one pipeline through one ring. ``run`` owns all tasks."""

    def __init__(self, worker: Worker, head: HeadShard, ring: Ring, limits: Limits, *, first_id: int = 1) -> None:
        self._worker = worker
        self._head = head
        self._ring = ring
        self._limits = limits
        self._ids = itertools.count(first_id)
        self._steps = itertools.count(1)
        self._step_count = 0
        self._waiting: deque[Ticket] = deque()
        self._prefilling: deque[Ticket] = deque()
        self._live: dict[int, Ticket] = {}
        self._reserved = 0
        self._work = asyncio.Event()
        self._slots = asyncio.Semaphore(max(ring.stages, 1))
        self._closed: asyncio.Queue[Ticket] = asyncio.Queue()
        self._lanes: list[_Lane] = []
        self._new_lanes: asyncio.Queue[_Lane] = asyncio.Queue()
        self._deadline = StepDeadlines()

    @property
    def next_id(self) -> int:
        """A sequence id that no sequence of this scheduler has had: where the next epoch's scheduler begins."""
        return next(self._ids)

    def statistics(self) -> SchedulerStatistics:
        """Live figures."""
        decoding = sum(len(lane.rows) + len(lane.joining) for lane in self._lanes)
        return SchedulerStatistics(
            len(self._waiting), len(self._prefilling), decoding, self._reserved, self._step_count
        )

    def submit(
        self,
        generation_id: str,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        reserve: int,
        stop_ids: frozenset[int],
        sampler: RowSampler,
        client: Client,
    ) -> Ticket:
        """Takes a sequence in; it begins as soon as there is room.

        Args:
            generation_id: the caller's, for traces.
            prompt: token ids, at least one.
            max_tokens: tokens to sample at most.
            reserve: positions to set aside in the caches.
            stop_ids: tokens that end the turn.
            sampler: with its state.
            client: who gets the tokens.

        Raises:
            OverloadedError: the queue is full, or the sequence cannot ever fit.
            UnavailableError: the ring is lost.
        """
        if self._ring.lost.done():
            raise UnavailableError(self._ring.lost.result().message)
        if reserve > self._limits.kv_tokens:
            raise OverloadedError(
                f"{reserve} positions do not fit into the {self._limits.kv_tokens} that the caches hold", retry_after=0
            )
        if len(self._waiting) >= self._limits.max_waiting:
            raise OverloadedError(f"{len(self._waiting)} requests wait already")
        ticket = Ticket(next(self._ids), generation_id, [*prompt], reserve, max_tokens, stop_ids, sampler, client)
        self._waiting.append(ticket)
        self._work.set()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Ends a sequence: its caches are freed on every stage within one step. No-op when it is over."""
        self._finish(ticket)

    async def run(self) -> None:
        """Works until the ring is lost or the caller cancels; every sequence that is not over then fails.

        Raises what broke the ring.
        """
        error: TandemError = StageLostError("the pipeline was stopped")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                tasks.create_task(self._prefill_loop(tasks))
                tasks.create_task(self._close_loop())
                tasks.create_task(self._spawn_lanes(tasks))
        except* TandemError as errors:
            error = first_of(errors)
            raise error from None
        finally:
            self._fail_all(error)

    # -- admission and prefill

    async def _prefill_loop(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._admit()
            if not self._prefilling:
                self._work.clear()
                await self._work.wait()
                continue
            ticket = self._prefilling.popleft()
            if ticket.over:
                continue
            if not ticket.opened:
                await self._open(ticket)
            if not ticket.prefilled:
                await self._prefill(ticket, tasks)
            if ticket.sequence_id not in self._live:  # ended meanwhile
                continue
            if ticket.prefilled:
                self._join_lane(ticket)
            else:
                self._prefilling.append(ticket)

    def _admit(self) -> None:
        while self._waiting and len(self._prefilling) < self._limits.max_prefilling:
            ticket = self._waiting[0]
            full = len(self._live) >= self._limits.max_running
            if full or self._reserved + ticket.reserve > self._limits.kv_tokens:
                return
            self._waiting.popleft()
            if ticket.over:
                continue
            self._live[ticket.sequence_id] = ticket
            self._reserved += ticket.reserve
            self._prefilling.append(ticket)

    async def _open(self, ticket: Ticket) -> None:
        ticket.opened = True
        await self._apply(OpenSequence(ticket.sequence_id, ticket.generation_id, ticket.reserve))

    async def _apply(self, entry: Entry) -> None:
        await self._worker.run(lambda: self._head.apply(entry))
        await self._ring.send(entry)

    async def _prefill(self, ticket: Ticket, tasks: asyncio.TaskGroup) -> None:
        """One chunk; it travels on while the next one is computed."""
        begin, in_prompt = ticket.processed, not ticket.sampled
        tokens = ticket.tokens[begin : min(begin + self._limits.prefill_chunk, len(ticket.tokens) - 1)]
        await self._slots.acquire()
        step_id = self._next_step()
        with self._deadline.prefill(len(tokens)) as timer:
            job = partial(self._head.prefill, step_id, 0, ticket.sequence_id, begin, tokens)
            step = await self._worker.run(job, step=len(tokens))
            if step.failures:
                self._slots.release()
                self._fail(ticket, step.failures[0].error, step.failures[0].message)
                return
            ticket.processed += len(tokens)
            arrival = self._ring.expect(step)
            await self._ring.send(step)
        tasks.create_task(self._prefilled(ticket, arrival, len(tokens), timer, report=in_prompt))

    async def _prefilled(
        self, ticket: Ticket, arrival: asyncio.Future[Step], count: int, timer: StepTimer, *, report: bool
    ) -> None:
        try:
            step = await timer.wait(arrival)
        finally:
            self._slots.release()
        if ticket.over:
            return
        if step.failures:
            self._fail(ticket, step.failures[0].error, step.failures[0].message)
        elif report:
            ticket.client.on_prefill(step.spans[0].position + count)

    # -- lanes

    def _join_lane(self, ticket: Ticket) -> None:
        limit = self._limits.max_rows if self._limits.batchable else 1
        room = [lane for lane in self._lanes if len(lane.rows) + len(lane.joining) < limit]
        wanted = self._ring.stages if self._limits.batchable else len(self._lanes) + 1
        idle = [lane for lane in room if not lane.rows and not lane.joining]
        if not idle and (len(self._lanes) < wanted or not room):
            lane = _Lane(len(self._lanes))
            self._lanes.append(lane)
            self._new_lanes.put_nowait(lane)
        else:
            lane = min(room, key=lambda lane: len(lane.rows) + len(lane.joining))
        lane.joining.append(ticket)
        lane.wake.set()

    async def _spawn_lanes(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            lane = await self._new_lanes.get()
            tasks.create_task(self._lane_loop(lane))

    async def _lane_loop(self, lane: _Lane) -> None:
        arrived: Step | None = None
        busy = False
        samples: tuple[Sample, ...] = ()
        while True:
            if not busy and not lane.joining:
                lane.wake.clear()
                await lane.wake.wait()
                continue
            join = [ticket for ticket in lane.joining if not ticket.over]
            lane.joining.clear()
            rows = [ticket.row() for ticket in join]
            lane.rows.update((ticket.sequence_id, ticket) for ticket in join)
            turn_of = partial(self._head.turn, self._next_step(), lane.number, arrived, rows)
            work = self._worker.submit(turn_of, step=1)
            self._deliver(lane, samples)  # while the device works
            turn = await work
            samples, busy, arrived = turn.samples, turn.busy, None
            for failure in turn.failures:
                ticket = lane.rows.pop(failure.sequence_id, None)
                if ticket is not None:
                    self._fail(ticket, failure.error, failure.message)
            if turn.left:
                self._deliver(lane, samples)
                samples = ()
                self._feed_forced(lane, turn.left)
            if turn.step is not None:
                with self._deadline.decode() as timer:
                    arrival = self._ring.expect(turn.step)
                    await self._ring.send(turn.step)
                    self._deliver(lane, samples)  # while the ring works
                    samples = ()
                    arrived = await timer.wait(arrival)
            elif not busy:
                self._deliver(lane, samples)
                samples = ()

    def _feed_forced(self, lane: _Lane, left: Sequence[Left]) -> None:
        """Sequences that left with forced tokens feed them as a prompt is fed, before any prompt."""
        for sequence_id, length in left:
            ticket = lane.rows.pop(sequence_id, None)
            if ticket is not None:
                ticket.processed = length
                self._prefilling.appendleft(ticket)
        self._work.set()

    def _deliver(self, lane: _Lane, samples: Sequence[Sample]) -> None:
        for sample in samples:
            ticket = lane.rows.get(sample.sequence_id)
            if ticket is None or ticket.over:
                lane.rows.pop(sample.sequence_id, None)
                continue
            ticket.tokens.append(sample.token)
            ticket.sampled += 1
            more = ticket.client.on_sample(sample)
            if sample.last or not more:
                lane.rows.pop(sample.sequence_id, None)
                self._finish(ticket)
            elif not self._has_room(ticket):
                lane.rows.pop(sample.sequence_id, None)
                message = f"the caches are full: {self._limits.kv_tokens} positions are all in use"
                self._fail(ticket, SpanError.OUT_OF_KV, message)

    def _has_room(self, ticket: Ticket) -> bool:
        """Counts a token; a sequence that outgrows what was set aside for it gets more while there is any."""
        if len(ticket.tokens) <= ticket.reserve:
            return True
        more = min(_GROWTH, self._limits.kv_tokens - self._reserved)
        if more <= 0:
            return False
        ticket.reserve += more
        self._reserved += more
        return True

    # -- the end of a sequence

    def _finish(self, ticket: Ticket) -> None:
        if ticket.over:
            return
        ticket.over = True
        for lane in self._lanes:
            lane.rows.pop(ticket.sequence_id, None)
        if self._live.pop(ticket.sequence_id, None) is not None:
            self._closed.put_nowait(ticket)
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        self._work.set()

    async def _close_loop(self) -> None:
        while True:
            ticket = await self._closed.get()
            if ticket.opened:
                await self._apply(CloseSequence(ticket.sequence_id))
            self._reserved -= ticket.reserve
            self._work.set()

    def _fail(self, ticket: Ticket, error: SpanError, message: str) -> None:
        if ticket.over:
            return
        ticket.client.on_failure(_error_for(error, message))
        self._finish(ticket)

    def _fail_all(self, error: TandemError) -> None:
        for ticket in [*self._live.values(), *self._waiting]:
            if not ticket.over:
                ticket.over = True
                ticket.client.on_failure(error)
        self._live.clear()
        self._waiting.clear()

    # -- the ring

    async def _watch(self) -> None:
        raise await asyncio.shield(self._ring.lost)

    def _next_step(self) -> int:
        self._step_count += 1
        return next(self._steps)


def _error_for(error: SpanError, message: str) -> TandemError:
    if error is SpanError.OUT_OF_KV:
        return OverloadedError(message)
    return TandemError(f"a stage failed on this request: {message}", code="stage_failed")
