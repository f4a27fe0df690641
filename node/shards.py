"""What this node holds: one shard per pipeline, as its head or as a relay; and the memory that they take."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final

from node.engine.frames import StageStatistics
from node.engine.loading import LoadedShard, release
from node.engine.worker import Worker
from node.held import HeldShard, LoadProgress, Neighbours, ShardLoader
from node.links.base import Pipe
from node.links.link import IncomingLink
from node.memory import Memory
from node.serving.head import PipelineHead
from node.serving.ticket import Limits
from tandem.errors import NotFoundError, PreconditionError
from tandem.v1 import membership_pb2, model_pb2, pipeline_pb2, shard_pb2

log = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 0.1
"""Between two reports of a load."""
UNLOADED: Final = "unloaded"
"""Code of the refusal to load what was unloaded here: ids of pipelines are never used again."""
FIGURES_SECONDS: Final = 3.0
"""How long a shard's figures are waited for. They are told between two steps, and some steps take seconds; but who asks
may well ask because the MLX thread hangs."""
CLOSE_SECONDS: Final = 1.0
"""For freeing everything when the daemon stops."""
_REMEMBERED: Final = 1024
"""Pipelines of which it is remembered that they were unloaded."""


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
        self._loader = ShardLoader(worker, incarnation, limits, neighbours)
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

    @property
    def pending_steps(self) -> int:
        """Forward passes of all shards that wait for the MLX thread or run there."""
        return self._worker.pending_steps

    async def statistics(self, held: HeldShard) -> StageStatistics:
        """Live figures of a shard; those of the last time where the MLX thread is busy, or hangs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIGURES_SECONDS):
                held.figures = await self._worker.run(held.loaded.shard.statistics)
        return held.figures

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
        held = self._held.get(pipeline_id)
        # A head counts its epochs itself, in its pipeline.
        known = max(self._epochs.get(pipeline_id, 0), held.pipeline.epoch if held is not None else 0)
        if pipeline.epoch < known:
            raise PreconditionError(f"epoch {pipeline.epoch} of {pipeline_id} is stale: {known} is known here")
        if held is not None:
            if held.plan.digest != plan.digest:
                raise PreconditionError(f"another plan of {pipeline_id} is loaded here")
            self._epochs[pipeline_id] = pipeline.epoch
            yield held.loaded
            return
        if pipeline_id in self._memory:
            raise PreconditionError(f"{pipeline_id} is being loaded here already")
        index = self._loader.index(plan)
        self._memory.reserve(pipeline_id, plan.model.model_id, request.kv_budget_bytes + request.weight_bytes)
        try:
            progress = LoadProgress(self._neighbours.node_id)
            loading = asyncio.create_task(self._loader.load(request, index, progress))
            try:
                while not loading.done():
                    yield progress.message()
                    await asyncio.wait((loading,), timeout=PROGRESS_SECONDS)
                held = loading.result()
            finally:
                progress.cancelled = True
                loading.cancel()
                await asyncio.wait((loading,))
            self._memory.correct(pipeline_id, held.loaded.weight_bytes + request.kv_budget_bytes)
            if pipeline_id in self._unloaded:
                raise PreconditionError(f"{pipeline_id} was unloaded here meanwhile", code=UNLOADED)
        except BaseException:
            self._memory.release(pipeline_id)
            raise
        self._begin(held)
        self._neighbours.changed()
        yield held.loaded

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
        if hello.node_id not in held.pipeline.stages[held.index - 1].node_ids:
            raise PreconditionError(f"{hello.node_id} is not the stage before this one in {hello.pipeline_id}")
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
