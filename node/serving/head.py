"""The head of a pipeline: keeps its ring closed, and turns requests into events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from node.engine.head import HeadShard
from node.engine.sampling import RowSampler
from node.engine.worker import Worker
from node.links.base import Pipe
from node.links.link import IncomingLink
from node.serving.generation import Answer, Generation, check_context
from node.serving.grammar.demand import Demand, demand_of
from node.serving.grammar.turns import Held
from node.serving.model import HeadModel, ServedModel
from node.serving.prompt import Prompt
from node.serving.ring import Ring
from node.serving.scheduler import Scheduler
from node.serving.ticket import Limits, SchedulerStatistics, Ticket
from parsers import Parser, ToolSpec
from tandem.errors import InvalidRequestError, OverloadedError, PreconditionError, TandemError, UnavailableError
from tandem.v1 import generation_pb2 as pb
from tandem.v1 import membership_pb2, pipeline_pb2

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
"""Pause between two attempts to close the ring while nothing in the cluster changed."""
READY = membership_pb2.PIPELINE_STATE_READY
LOADING = membership_pb2.PIPELINE_STATE_LOADING
DEGRADED = membership_pb2.PIPELINE_STATE_DEGRADED


class PipelineHead:
    """Serves one pipeline from this node.

    Args:
        pipeline: as loaded; ``epoch`` is where this head begins to count.
        digest: of the plan, which every stage must share.
        hello: of this node, for links: node id and incarnation.
        model: tokenizer, templates, limits.
        worker: the MLX thread.
        shard: stage 0.
        limits: of the scheduler.
        dial: opens a pipe to a node.
        name_of: a node's name for people.
        ensure: makes sure that the stages behind the head are loaded under an epoch; raises what is missing.
        changed: called whenever state, reason or epoch changed.
    """

    def __init__(
        self,
        pipeline: membership_pb2.Pipeline,
        digest: str,
        hello: pipeline_pb2.LinkHello,
        model: HeadModel,
        worker: Worker,
        shard: HeadShard,
        limits: Limits,
        dial: Callable[[str], Awaitable[Pipe]],
        name_of: Callable[[str], str],
        ensure: Callable[[int], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.pipeline = pipeline
        self.model = model
        self._digest = digest
        self._hello = hello
        self._worker = worker
        self._shard = shard
        self._limits = limits
        self._dial = dial
        self._name_of = name_of
        self._ensure = ensure
        self._changed = changed
        self._ring: Ring | None = None
        self._scheduler: Scheduler | None = None
        self._next_sequence = 1
        self._nudge = asyncio.Event()
        self._live: dict[str, tuple[Generation, Ticket]] = {}
        self._prompts = ThreadPoolExecutor(1, thread_name_prefix="prompts")
        self._rendering = 0
        self._pipeline_id = pipeline.pipeline_id

    @property
    def stages(self) -> int:
        """How many nodes the ring has."""
        return len(self.pipeline.stages)

    def statistics(self) -> SchedulerStatistics | None:
        """Figures of the scheduler; None while the ring is open."""
        return None if self._scheduler is None else self._scheduler.statistics()

    def nudge(self) -> None:
        """Something in the cluster changed: an open ring is worth another attempt."""
        self._nudge.set()

    def lost(self, error: TandemError) -> None:
        """A node of the ring is known to be gone: what is in flight fails now."""
        if self._ring is not None:
            self._ring.fail(error)

    async def run(self) -> None:
        """Keeps the ring closed until cancelled: each attempt is an epoch of its own. Requests that are in flight when
        the ring breaks fail in band; the next ones wait for nobody and are refused until it is closed again."""
        self.model.grammars.warm()
        try:
            while True:
                self._nudge.clear()
                try:
                    await self._serve_epoch()
                except TandemError as error:
                    if self.pipeline.reason != error.message:
                        log.warning("%s: %s", self._pipeline_id, error.message)
                        self._set(DEGRADED if self.pipeline.state != LOADING else LOADING, error.message)
                try:
                    async with asyncio.timeout(RETRY_SECONDS):
                        await self._nudge.wait()
                except TimeoutError:
                    continue
        finally:
            self._prompts.shutdown(wait=False, cancel_futures=True)
            self.model.grammars.close()

    async def _serve_epoch(self) -> None:
        if self.stages > 1:
            await self._ensure(self.pipeline.epoch + 1)
        self.pipeline.epoch += 1
        epoch = self.pipeline.epoch
        hello = pipeline_pb2.LinkHello(
            pipeline_id=self._pipeline_id,
            epoch=epoch,
            node_id=self._hello.node_id,
            incarnation=self._hello.incarnation,
            plan_digest=self._digest,
        )
        names = [
            f"stage {index} on {self._name_of(stage.node_ids[0])}" for index, stage in enumerate(self.pipeline.stages)
        ]
        ring = self._ring = Ring(self.stages, hello, names)
        try:
            if self.stages > 1:
                await ring.connect(partial(self._dial, self.pipeline.stages[1].node_ids[0]))
            scheduler = Scheduler(self._worker, self._shard, ring, self._limits, first_id=self._next_sequence)
            self._scheduler = scheduler
            self._set(READY, "")
            try:
                await scheduler.run()
            finally:
                self._next_sequence = scheduler.next_id
                self._scheduler = None
        finally:
            self._ring = None
            await ring.close()
            await self._worker.run(self._shard.clear)

    async def accept_closing(self, hello: pipeline_pb2.LinkHello, link: IncomingLink) -> None:
        """Serves the link from the last stage until it ends."""
        self.check(hello)
        assert self._ring is not None
        await self._ring.serve_closing(link)

    def check(self, hello: pipeline_pb2.LinkHello) -> None:
        """Raises PreconditionError for a hello of another epoch or plan."""
        if self._ring is None or hello.epoch != self.pipeline.epoch:
            raise PreconditionError(f"epoch {hello.epoch} of {self._pipeline_id} is stale: {self.pipeline.epoch} is on")
        if hello.plan_digest != self._digest:
            raise PreconditionError(f"the plan of {self._pipeline_id} has another digest here")

    def _set(self, state: membership_pb2.PipelineState.ValueType, reason: str) -> None:
        self.pipeline.state = state
        self.pipeline.reason = reason
        self._changed()

    # -- requests

    async def prompt(self, request: pb.GenerateRequest) -> Prompt:
        """The rendered prompt of a request, made in a thread of its own.

        Cancelled before its turn, it is not made at all. Raises what rendering raises, and OverloadedError when too
        many wait.
        """
        served = self.model.served(request.model)
        if self._rendering >= self._limits.max_waiting:
            raise OverloadedError(f"{self._rendering} prompts wait already")
        loop = asyncio.get_running_loop()
        self._rendering += 1
        try:
            return await loop.run_in_executor(self._prompts, served.renderer.render, request)
        finally:
            self._rendering -= 1

    async def generate(self, request: pb.GenerateRequest) -> AsyncGenerator[list[pb.GenerationEvent]]:
        """Events of a request that became ready together, the first being ``accepted``.

        Closing the iterator ends the sequence on every stage within one step.

        Raises:
            InvalidRequestError: before the first event only; no answer can be what the request demands, for one.
            OverloadedError: the queue is full, of sequences or of grammars that wait to be compiled.
            UnavailableError: the ring is open; says what is missing.
        """
        served = self.model.served(request.model)
        sampling = self.model.sampling(request)
        demand = demand_of(request)
        prompt = await self.prompt(request)
        if not prompt.ids:
            raise InvalidRequestError("the prompt is empty", param="messages")
        asked = request.max_tokens if request.HasField("max_tokens") else None
        max_tokens = check_context(len(prompt.ids), asked, self.model.context_tokens)
        stop_ids = frozenset() if request.ignore_eos else self.model.stop_ids
        held = await self._hold(demand, request, served, prompt, max_tokens)
        scheduler = self._scheduler
        if scheduler is None:
            raise UnavailableError(self.pipeline.reason or "the pipeline is loading", code="model_unavailable")
        generation = Generation(
            request.generation_id,
            self.model.vocabulary,
            _parser(request, served, prompt),
            _answer(request, served, stop_ids, held),
            len(prompt.ids),
        )
        await self._take_over(request.generation_id)
        reserve = len(prompt.ids) + min(max_tokens, _RESERVE if asked is None else max_tokens)
        ticket = scheduler.submit(
            request.generation_id,
            prompt.ids,
            max_tokens=max_tokens,
            reserve=min(reserve, self._limits.kv_tokens) if asked is None else reserve,
            stop_ids=stop_ids,
            sampler=RowSampler.for_prompt(sampling, prompt.ids, constraint=held.constraint),
            client=generation,
        )
        self._live[request.generation_id] = (generation, ticket)
        listener = served.renderer.listen(request, prompt, stop_ids)
        try:
            generation.accepted(self._pipeline_id, prompt.ids, held.warnings)
            async for events in generation.events():
                listener.take(events)
                yield events
        finally:
            scheduler.cancel(ticket)
            if self._live.get(request.generation_id, (None,))[0] is generation:
                del self._live[request.generation_id]

    async def _hold(
        self, demand: Demand | None, request: pb.GenerateRequest, served: ServedModel, prompt: Prompt, max_tokens: int
    ) -> Held:
        """What holds the answer to the demand, with a parser of its own."""
        if demand is None:
            return Held()
        parser = _parser(request, served, prompt)
        assert parser is not None  # only a conversation demands anything
        held = await served.grammars.hold(demand, parser, prompt.suffix, max_tokens)
        for warning in held.warnings:
            log.info("%s: generation %s: %s", self._pipeline_id, request.generation_id, warning)
        return held

    def cancel(self, generation_id: str) -> bool:
        """Ends a generation in band; False when there is none of that id."""
        live = self._live.pop(generation_id, None)
        if live is None:
            return False
        generation, ticket = live
        generation.cancelled()
        if self._scheduler is not None:
            self._scheduler.cancel(ticket)
        return True

    async def _take_over(self, generation_id: str) -> None:
        """A request with the id of a live generation ends that one."""
        if generation_id in self._live:
            self.cancel(generation_id)
            await asyncio.sleep(0)


_RESERVE: Final = 1024
"""Positions set aside for an answer whose length nobody asked for."""


def _answer(request: pb.GenerateRequest, served: ServedModel, stop_ids: frozenset[int], held: Held) -> Answer:
    taken = frozenset(call.tool_call_id for message in request.conversation.messages for call in message.tool_calls)
    own_ids = bool(served.format.call_id)
    return Answer(tuple(request.stop), stop_ids, _single_call(request), held.checks, own_ids, taken)


def _single_call(request: pb.GenerateRequest) -> bool:
    return request.HasField("parallel_tool_calls") and not request.parallel_tool_calls


def _parser(request: pb.GenerateRequest, served: ServedModel, prompt: Prompt) -> Parser | None:
    """The parser of a conversation; plain prompts have no markup."""
    if request.WhichOneof("prompt") != "conversation":
        return None
    tools = [ToolSpec(tool.name, tool.parameters_json or None) for tool in request.tools]
    enabled = bool(tools) and request.tool_choice.mode != pb.TOOL_CHOICE_MODE_NONE
    return Parser(served.format, tools, enabled, prompt.suffix, single_tokens=served.single_tokens)
