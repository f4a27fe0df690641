"""One stage in memory, and how it gets there: its files, its shard, and the head or the relay that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from node.cluster.local_model import LocalModel
from node.cluster.store import ModelStore
from node.engine.frames import StageStatistics
from node.engine.head import HeadShard
from node.engine.headers import Headers
from node.engine.loading import LoadedShard, load_shard, needed_files
from node.engine.worker import Worker
from node.links.base import Pipe
from node.placement import DEFAULT_CONTEXT, ranges_of
from node.serving.head import PipelineHead
from node.serving.model import HeadModel
from node.serving.relay import Relay
from node.serving.ticket import Limits
from tandem.errors import NotFoundError, PreconditionError, TandemError
from tandem.v1 import membership_pb2, model_pb2, pipeline_pb2, shard_pb2


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
    """One shard in memory. ``figures`` are the last that the MLX thread told."""

    pipeline: membership_pb2.Pipeline
    plan: model_pb2.Plan
    index: int
    loaded: LoadedShard
    headers: Headers
    head: PipelineHead | None = None
    relay: Relay | None = None
    figures: StageStatistics = field(default_factory=StageStatistics)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def pipeline_id(self) -> str:
        """Of its pipeline."""
        return self.pipeline.pipeline_id

    @property
    def driven(self) -> bool:
        """Whether this is the head, or a link from the stage before is being served."""
        return self.head is not None or any(not task.done() for task in self.tasks)


class LoadProgress:
    """Bytes of a load, written by the MLX thread and read by the loop."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._phase = model_pb2.LOAD_PHASE_DOWNLOADING
        self._done = self._total = 0
        self.cancelled = False

    def begin(self, phase: model_pb2.LoadPhase.ValueType) -> None:
        """What is done now; its bytes count from zero."""
        self._phase, self._done, self._total = phase, 0, 0

    def __call__(self, done: int, total: int) -> None:
        """Takes the bytes done and in all. Raises TandemError when the load was given up."""
        if self.cancelled:
            raise TandemError("the load was given up", code="cancelled")
        self._done, self._total = done, total

    def message(self) -> model_pb2.NodeLoadProgress:
        """The progress now."""
        return model_pb2.NodeLoadProgress(
            node_id=self._node_id, phase=self._phase, done_bytes=self._done, total_bytes=self._total
        )


class ShardLoader:
    """Makes this node's part of plans.

    Args:
        incarnation: of this node, for links.
        limits: figures for schedulers, by positions of the caches and by whether sequences may share a step.
    """

    def __init__(
        self,
        worker: Worker,
        incarnation: Callable[[], int],
        limits: Callable[[int, bool], Limits],
        neighbours: Neighbours,
    ) -> None:
        self._worker = worker
        self._incarnation = incarnation
        self._limits = limits
        self._neighbours = neighbours

    def index(self, plan: model_pb2.Plan) -> int:
        """The stage that is this node's. Raises NotFoundError."""
        for index, stage in enumerate(plan.stages):
            if self._neighbours.node_id in stage.node_ids:
                return index
        raise NotFoundError("the plan has no stage for this node")

    async def load(self, request: shard_pb2.LoadShardRequest, index: int, progress: LoadProgress) -> HeldShard:
        """Fetches what is missing of a stage's files, loads it, and makes what serves it; nothing runs yet.

        Cancelling does not stop the MLX thread: what ``progress`` raises there does.

        Raises:
            PreconditionError: this node gets another digest out of the plan.
            NotFoundError, UnavailableError, CheckpointError, UnsupportedModelError: as the store and the engine say.
        """
        plan = request.plan
        model, headers, loaded = await self._load(request, index, progress)
        if plan.digest and loaded.digest != plan.digest:
            raise PreconditionError(
                f"this node makes digest {loaded.digest} of the plan, not {plan.digest}: "
                "other files or other versions of mlx and mlx-lm"
            )
        return await self._make(request.pipeline, plan, index, loaded, headers, model)

    async def _load(
        self, request: shard_pb2.LoadShardRequest, index: int, progress: LoadProgress
    ) -> tuple[LocalModel, Headers, LoadedShard]:
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
