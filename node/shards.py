"""What this node holds: one shard per pipeline, as its head or as a relay; and the memory that they take."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from node.cluster.local_model import LocalModel
from node.cluster.store import ModelStore
from node.engine.frames import StageStatistics
from node.engine.head import HeadShard
from node.engine.headers import Headers
from node.engine.loading import LoadedShard, load_shard, needed_files, release
from node.engine.worker import Worker
from node.links.base import Pipe
from node.links.link import IncomingLink
from node.memory import Memory
from node.placement import DEFAULT_CONTEXT, ranges_of
from node.serving.head import PipelineHead
from node.serving.model import HeadModel
from node.serving.relay import Relay
from node.serving.ticket import Limits
from tandem.errors import NotFoundError, PreconditionError, TandemError
from tandem.v1 import membership_pb2, model_pb2, pipeline_pb2, shard_pb2

log = logging.getLogger(__name__)

Progress = model_pb2.NodeLoadProgress

PROGRESS_SECONDS: Final = 0.1
"""Between two reports of a load."""
UNLOADED: Final = "unloaded"
"""Code of the refusal to load what was unloaded here: ids of pipelines are never used again."""
CLOSE_SECONDS: Final = 1.0
"""For freeing everything when the daemon stops."""
_REMEMBERED: Final = 1024
"""Pipelines of which it is remembered that they were unloaded."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What a shard needs of the rest of the node.

    ``dial`` opens a pipe to a node; ``ensure`` sees to it that the stages behind a head are loaded under an epoch;
    ``store`` finds checkpoints; ``changed`` is told of every change.
    """

    node_id: str
    name_of: Callable[[str], str]
    dial: Callable[[str], Awaitable[Pipe]]
    ensure: Callable[[HeldShard, int], Awaitable[None]]
    store: ModelStore
    changed: Callable[[], None]


@dataclass(slots=True)
class HeldShard:
    """One shard in memory."""

    pipeline: membership_pb2.Pipeline
    plan: model_pb2.Plan
    index: int
    loaded: LoadedShard
    headers: Headers
    head: PipelineHead | None = None
    relay: Relay | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def pipeline_id(self) -> str:
        """Of its pipeline."""
        return self.pipeline.pipeline_id

    @property
    def driven(self) -> bool:
        """Whether this is the head, or a link from the stage before is being served."""
        return self.head is not None or any(not task.done() for task in self.tasks)


class Shards:
    """The shards of this node. Loading reserves memory first, so that two loads at once cannot both win.

    Args:
        memory_bytes: what weights and caches may take together.
        incarnation: of this node, for links.
        limits: figures for schedulers, ``kv_tokens`` apart.
    """

    def __init__(
        self,
        worker: Worker,
        memory_bytes: int,
        incarnation: Callable[[], int],
        limits: Callable[[int, bool], Limits],
        neighbours: Neighbours,
    ) -> None:
        self._worker = worker
        self._memory = Memory(memory_bytes)
        self._incarnation = incarnation
        self._limits = limits
        self._neighbours = neighbours
        self._held: dict[str, HeldShard] = {}
        self._epochs: dict[str, int] = {}
        self._unloaded: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def memory_bytes(self) -> int:
        """What weights and caches may take together."""
        return self._memory.total

    @property
    def free_bytes(self) -> int:
        """Of that, what nothing has reserved."""
        return self._memory.free

    def held(self) -> list[HeldShard]:
        """All shards in memory."""
        return list(self._held.values())

    def get(self, pipeline_id: str) -> HeldShard:
        """The shard of a pipeline. Raises NotFoundError."""
        held = self._held.get(pipeline_id)
        if held is None:
            raise NotFoundError(f"this node holds no part of {pipeline_id}")
        return held

    def head_for(self, name: str) -> PipelineHead:
        """The head that serves a name from this node. Raises NotFoundError."""
        for held in self._held.values():
            if held.head is not None and any(served.name == name for served in held.pipeline.served_names):
                return held.head
        raise NotFoundError(f"{name} is not served by this node", code="model_not_found")

    async def statistics(self, held: HeldShard) -> StageStatistics:
        """Live figures of a shard."""
        return await self._worker.run(held.loaded.shard.statistics)

    # -- loading

    async def load(
        self, request: shard_pb2.LoadShardRequest
    ) -> AsyncGenerator[model_pb2.NodeLoadProgress | LoadedShard]:
        """Loads this node's part of a plan; progress, then the shard. Loading what is loaded already, for the same
        plan, only takes the newer epoch over.

        The first report comes as soon as the memory is reserved. Closing the iterator gives the load up.

        Raises:
            PreconditionError: this node knows a newer epoch, or another plan, of the pipeline; or (code ``unloaded``)
                it was unloaded here.
            UnavailableError: another load of the model is under way here, or has ended well (``model_loading``).
            OverloadedError: memory is short; says how much.
            NotFoundError: the plan has no stage for this node, or the checkpoint is not on its disk.
            CheckpointError, UnsupportedModelError: as the engine says.
        """
        pipeline, plan = request.pipeline, request.plan
        pipeline_id = pipeline.pipeline_id
        if pipeline_id in self._unloaded:
            raise PreconditionError(f"{pipeline_id} was unloaded here", code=UNLOADED)
        if pipeline.epoch < self._epochs.get(pipeline_id, 0):
            known = self._epochs[pipeline_id]
            raise PreconditionError(f"epoch {pipeline.epoch} of {pipeline_id} is stale: {known} is known here")
        held = self._held.get(pipeline_id)
        if held is not None:
            if held.plan.digest != plan.digest:
                raise PreconditionError(f"another plan of {pipeline_id} is loaded here")
            self._epochs[pipeline_id] = pipeline.epoch
            yield held.loaded
            return
        if pipeline_id in self._memory:
            raise PreconditionError(f"{pipeline_id} is being loaded here already")
        index = self._index(plan)
        self._memory.reserve(pipeline_id, plan.model.model_id, request.kv_budget_bytes + request.weight_bytes)
        try:
            progress = _Progress(self._neighbours.node_id)
            loading = asyncio.ensure_future(self._load(request, index, progress))
            try:
                while not loading.done():
                    yield progress.message()
                    await asyncio.wait((loading,), timeout=PROGRESS_SECONDS)
                model, headers, loaded = loading.result()
            finally:
                progress.cancelled = True
                loading.cancel()
                await asyncio.wait((loading,))
            if plan.digest and loaded.digest != plan.digest:
                raise PreconditionError(
                    f"this node makes digest {loaded.digest} of the plan, not {plan.digest}: "
                    "other files or other versions of mlx and mlx-lm"
                )
            self._memory.correct(pipeline_id, loaded.weight_bytes + request.kv_budget_bytes)
            held = await self._make(pipeline, plan, index, loaded, headers, model)
            if pipeline_id in self._unloaded:
                raise PreconditionError(f"{pipeline_id} was unloaded here meanwhile", code=UNLOADED)
        except BaseException:
            self._memory.release(pipeline_id)
            raise
        self._begin(held)
        self._neighbours.changed()
        yield loaded

    async def _load(
        self, request: shard_pb2.LoadShardRequest, index: int, progress: _Progress
    ) -> tuple[LocalModel, Headers, LoadedShard]:
        """Fetches what is missing of this stage's files, then loads it."""
        plan, store = request.plan, self._neighbours.store
        model = await store.find(plan.model.model_id, plan.model.revision)
        headers = Headers.load(request.headers) if request.headers else await store.headers(model)
        ranges = ranges_of(plan)
        files = await self._worker.run(partial(needed_files, model.folder, headers, *ranges[index]))
        progress.begin(model_pb2.LOAD_PHASE_DOWNLOADING)
        await store.fetch(model, files, headers, progress)
        progress.begin(model_pb2.LOAD_PHASE_LOADING)
        job = partial(
            load_shard,
            model.folder,
            headers,
            ranges,
            index,
            cast_to=plan.cast_to,
            kv_budget_bytes=request.kv_budget_bytes,
            progress=progress,
        )
        return model, headers, await self._worker.run(job)

    def _index(self, plan: model_pb2.Plan) -> int:
        for index, stage in enumerate(plan.stages):
            if self._neighbours.node_id in stage.node_ids:
                return index
        raise NotFoundError("the plan has no stage for this node")

    async def _make(
        self,
        pipeline: membership_pb2.Pipeline,
        plan: model_pb2.Plan,
        index: int,
        loaded: LoadedShard,
        headers: Headers,
        local: LocalModel,
    ) -> HeldShard:
        own = membership_pb2.Pipeline()
        own.CopyFrom(pipeline)
        own.state, own.reason = membership_pb2.PIPELINE_STATE_LOADING, ""
        held = HeldShard(own, plan, index, loaded, headers)
        hello = pipeline_pb2.LinkHello(
            pipeline_id=own.pipeline_id,
            node_id=self._neighbours.node_id,
            incarnation=self._incarnation(),
            plan_digest=loaded.digest,
        )
        if index == 0:
            assert isinstance(loaded.shard, HeadShard)
            names = list(own.served_names)
            model = await asyncio.to_thread(HeadModel, local.folder, names, local.context_tokens or DEFAULT_CONTEXT)
            held.head = PipelineHead(
                own,
                loaded.digest,
                hello,
                model,
                self._worker,
                loaded.shard,
                self._limits(plan.kv_tokens, loaded.batchable),
                self._neighbours.dial,
                self._neighbours.name_of,
                partial(self._neighbours.ensure, held),
                self._neighbours.changed,
            )
        else:
            after = own.stages[(index + 1) % len(own.stages)].node_ids[0]
            held.relay = Relay(
                self._worker,
                loaded.shard,
                hello,
                partial(self._neighbours.dial, after),
                f"{self._neighbours.name_of(after)}",
            )
        return held

    def _begin(self, held: HeldShard) -> None:
        pipeline_id = held.pipeline_id
        self._held[pipeline_id] = held
        self._epochs[pipeline_id] = max(held.pipeline.epoch, self._epochs.get(pipeline_id, 0))
        if held.head is not None:
            held.tasks.append(asyncio.create_task(self._run_head(held.head), name=f"head of {pipeline_id}"))

    def say(self, held: HeldShard, reason: str) -> None:
        """Tells the others what a stage that its head does not drive waits for; the head's own word counts more."""
        state = membership_pb2.PIPELINE_STATE_DEGRADED
        if (held.pipeline.state, held.pipeline.reason) != (state, reason):
            held.pipeline.state, held.pipeline.reason = state, reason
            self._neighbours.changed()

    async def _run_head(self, head: PipelineHead) -> None:
        try:
            await head.run()
        except Exception:
            log.exception("the head of %s failed", head.pipeline.pipeline_id)
            head.pipeline.state = membership_pb2.PIPELINE_STATE_DEGRADED
            head.pipeline.reason = "the head failed; see its log"
            self._neighbours.changed()

    async def unload(self, pipeline_id: str) -> int:
        """Frees a shard; bytes given back. Requests in flight fail in band, and nothing of the pipeline is loaded here
        again. Raises NotFoundError."""
        if pipeline_id not in self._unloaded:
            self._unloaded.append(pipeline_id)
        held = self.get(pipeline_id)
        del self._held[pipeline_id]
        for task in held.tasks:
            task.cancel()
        await asyncio.gather(*held.tasks, return_exceptions=True)
        freed = self._memory.release(pipeline_id)
        await self._worker.run(held.loaded.shard.clear)
        del held
        await self._worker.run(release)
        self._neighbours.changed()
        return freed

    async def close(self) -> None:
        """Frees everything; gives up after ``CLOSE_SECONDS``, because the MLX thread may hang."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for pipeline_id in list(self._held):
                    await self.unload(pipeline_id)
        except TimeoutError:
            log.warning("the MLX thread hangs; its memory goes with the process")

    # -- links

    async def accept(self, pipe: Pipe) -> None:
        """Serves one pipe that a neighbour opened: a relay's input, or the link that closes a head's ring."""
        link, hello = await IncomingLink.accept(pipe, self._verify)
        held = self.get(hello.pipeline_id)
        if held.head is not None:
            await held.head.accept_closing(hello, link)
            return
        assert held.relay is not None
        serving = asyncio.current_task()
        assert serving is not None
        # A new epoch's link takes the place of an old one: its peer may not have noticed yet that it broke.
        for task in held.tasks:
            task.cancel()
        await asyncio.gather(*held.tasks, return_exceptions=True)
        task = asyncio.create_task(held.relay.serve(link, hello.epoch), name=f"relay of {hello.pipeline_id}")
        held.tasks = [task]
        try:
            await task
        finally:
            task.cancel()

    def _verify(self, hello: pipeline_pb2.LinkHello) -> bool:
        """Checks a hello; whether its link needs credit."""
        held = self.get(hello.pipeline_id)
        if held.head is not None:
            held.head.check(hello)
            return False
        known = self._epochs.get(hello.pipeline_id, 0)
        if hello.epoch < known:
            raise PreconditionError(f"epoch {hello.epoch} of {hello.pipeline_id} is stale: {known} is known here")
        if hello.plan_digest != held.loaded.digest:
            raise PreconditionError(f"the plan of {hello.pipeline_id} has another digest here")
        self._epochs[hello.pipeline_id] = held.pipeline.epoch = hello.epoch
        self.say(held, "the ring is being closed")
        return True


class _Progress:
    """Bytes of a load, written by the MLX thread and read by the loop."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._phase = model_pb2.LOAD_PHASE_LOADING
        self._done = self._total = 0
        self.cancelled = False

    def begin(self, phase: model_pb2.LoadPhase.ValueType) -> None:
        """What is done now; its bytes count from zero."""
        self._phase, self._done, self._total = phase, 0, 0

    def __call__(self, done: int, total: int) -> None:
        if self.cancelled:
            raise TandemError("the load was given up", code="cancelled")
        self._done, self._total = done, total

    def message(self) -> model_pb2.NodeLoadProgress:
        """The progress now."""
        return model_pb2.NodeLoadProgress(
            node_id=self._node_id, phase=self._phase, done_bytes=self._done, total_bytes=self._total
        )
