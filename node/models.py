"""Models over the cluster: plan, load, unload, list. The node that is asked coordinates that one call."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from node.cluster.local_model import LocalModel
from node.cluster.membership import Membership
from node.cluster.store import ModelStore
from node.engine.loading import LoadedShard
from node.placement import Placer, Planned, Wish
from node.serving.prompt import read_template
from node.shards import Shards
from tandem import rpc
from tandem.errors import NotFoundError, OverloadedError, TandemError, UnavailableError
from tandem.v1 import membership_pb2, model_pb2, shard_pb2, types_pb2
from tandem.v1.model_pb2_grpc import ModelServiceStub
from tandem.v1.shard_pb2_grpc import ShardServiceStub

log = logging.getLogger(__name__)

READY_DEADLINE: Final = 60.0
"""Seconds from the last stage's load until the ring must be closed."""


class Models:
    """Coordinates models for one node's ``ModelService``."""

    def __init__(self, membership: Membership, shards: Shards, store: ModelStore, placer: Placer) -> None:
        self._membership = membership
        self._shards = shards
        self._store = store
        self._placer = placer
        self._loading: dict[str, asyncio.Lock] = {}

    # -- what there is

    async def entries(self, *, local_only: bool = False) -> list[model_pb2.ModelEntry]:
        """Every model that is loaded, or on the disk of a node that answers."""
        own = self._membership.node_id
        entries: dict[str, model_pb2.ModelEntry] = {}
        for local in await self._store.on_disk():
            entries[local.model_id] = _entry(local, own)
        if not local_only:
            for node_id, found in (await self._ask_all()).items():
                for entry in found:
                    known = entries.setdefault(entry.model.model_id, entry)
                    if node_id not in known.on_disk_node_ids:
                        known.on_disk_node_ids.append(node_id)
            for pipeline in self._membership.topology().pipelines:
                entry = entries.setdefault(pipeline.model.model_id, model_pb2.ModelEntry(model=pipeline.model))
                entry.pipeline.CopyFrom(pipeline)
                entry.served_names[:] = [served.name for served in pipeline.served_names]
        return sorted(entries.values(), key=lambda entry: entry.model.model_id)

    async def _ask_all(self) -> dict[str, Sequence[model_pb2.ModelEntry]]:
        async def ask(node_id: str) -> Sequence[model_pb2.ModelEntry]:
            request = model_pb2.ListModelsRequest(local_only=True)
            stub = ModelServiceStub(self._membership.channel(node_id))
            return (await rpc.unary(stub.ListModels(request, timeout=rpc.UNARY_DEADLINE))).models

        others = [node.node_id for node in self._placer.alive() if node.node_id != self._membership.node_id]
        answers = await asyncio.gather(*(ask(node_id) for node_id in others), return_exceptions=True)
        found: dict[str, Sequence[model_pb2.ModelEntry]] = {}
        for node_id, answer in zip(others, answers, strict=True):
            if isinstance(answer, BaseException):
                log.warning("%s does not list its models: %s", node_id, answer)
            else:
                found[node_id] = answer
        return found

    def pipeline(self, name: str) -> membership_pb2.Pipeline:
        """The pipeline of a served name, a model id or a pipeline id. Raises NotFoundError."""
        for pipeline in self._membership.topology().pipelines:
            names = {pipeline.pipeline_id, pipeline.model.model_id, *(each.name for each in pipeline.served_names)}
            if name in names:
                return pipeline
        raise NotFoundError(f"{name} is not loaded", code="model_not_found")

    # -- planning

    async def plan(self, request: model_pb2.PlanModelRequest) -> model_pb2.Plan:
        """Where a model would go, and why. Raises as ``Placer.place``."""
        wish = Wish(request.context_tokens, tuple(request.node_ids), request.stage_count)
        return (await self._placer.place(request.model.model_id, wish)).plan

    # -- loading

    async def load(self, request: model_pb2.LoadModelRequest) -> AsyncGenerator[model_pb2.LoadModelResponse]:
        """The plan, progress of each node, and the pipeline once it serves. A model that is loaded already is ready at
        once. Whatever fails, everything that was loaded for it is given back. Raises as ``plan``."""
        model_id = request.model.model_id or request.plan.model.model_id
        async with self._loading.setdefault(model_id, asyncio.Lock()):
            try:
                yield model_pb2.LoadModelResponse(ready=self.pipeline(model_id))
                return
            except NotFoundError:
                pass
            if request.HasField("plan"):
                planned = await self._placer.pinned(request.plan)
            else:
                wish = Wish(request.context_tokens, tuple(request.node_ids), request.stage_count)
                planned = await self._placer.place(model_id, wish)
            yield model_pb2.LoadModelResponse(plan=planned.plan)
            pipeline = self._new_pipeline(request, planned.model, planned.plan)
            done = False
            try:
                async for progress in self._load_stages(pipeline, planned):
                    yield model_pb2.LoadModelResponse(progress=progress)
                ready = await self._until_ready(pipeline.pipeline_id)
                done = True
                yield model_pb2.LoadModelResponse(ready=ready)
            finally:
                if not done:
                    await self._unload_stages(pipeline)

    def _new_pipeline(
        self, request: model_pb2.LoadModelRequest, local: LocalModel, plan: model_pb2.Plan
    ) -> membership_pb2.Pipeline:
        names = [
            membership_pb2.ServedName(
                name=served.name,
                chat_template=read_template(local.folder, served.chat_template),
                tool_format=served.tool_format,
            )
            for served in local.served_names
        ]
        taken = {served.name for pipe in self._membership.topology().pipelines for served in pipe.served_names}
        names = [served for served in [*names, *request.served_names] if served.name not in taken]
        return membership_pb2.Pipeline(
            pipeline_id=f"{local.folder.name[:24]}-{uuid.uuid4().hex[:8]}",
            model=plan.model,
            served_names=names,
            stages=plan.stages,
            epoch=1,
            state=membership_pb2.PIPELINE_STATE_LOADING,
        )

    async def _load_stages(
        self, pipeline: membership_pb2.Pipeline, planned: Planned
    ) -> AsyncGenerator[model_pb2.NodeLoadProgress]:
        """Loads all stages at once; progress as it comes. Raises the first error, naming its node."""
        progress: asyncio.Queue[model_pb2.NodeLoadProgress | None] = asyncio.Queue(64)

        async def load(index: int) -> None:
            request = self._shard_request(pipeline, planned, index)
            node_id = pipeline.stages[index].node_ids[0]
            try:
                async for event in self._load_shard(node_id, request):
                    await progress.put(event)
            except TandemError as error:
                error.message = f"{self._membership.node(node_id).name}: {error.message}"
                error.args = (error.message,)
                raise

        async def load_all() -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for index in range(len(pipeline.stages)):
                        tasks.create_task(load(index))
            except* TandemError as errors:
                raise errors.exceptions[0] from None
            finally:
                await progress.put(None)

        loading = asyncio.create_task(load_all())
        try:
            while (event := await progress.get()) is not None:
                yield event
            await loading
        finally:
            loading.cancel()
            while not loading.done():
                await asyncio.wait((loading,), timeout=0.1)
                while not progress.empty():
                    progress.get_nowait()

    def _shard_request(
        self, pipeline: membership_pb2.Pipeline, planned: Planned, index: int
    ) -> shard_pb2.LoadShardRequest:
        return shard_pb2.LoadShardRequest(
            pipeline=pipeline,
            plan=planned.plan,
            kv_budget_bytes=planned.kv_bytes[index],
            weight_bytes=planned.weight_bytes[index],
            headers=planned.headers.dump(),
        )

    async def _load_shard(
        self, node_id: str, request: shard_pb2.LoadShardRequest
    ) -> AsyncGenerator[model_pb2.NodeLoadProgress]:
        if node_id == self._membership.node_id:
            async for event in self._shards.load(request):
                yield _finished(node_id, event) if isinstance(event, LoadedShard) else event
            return
        call = ShardServiceStub(self._membership.channel(node_id)).LoadShard(request)
        async with aclosing(rpc.responses(call)) as responses:
            async for response in responses:
                if response.HasField("ready"):
                    yield model_pb2.NodeLoadProgress(
                        node_id=node_id,
                        phase=model_pb2.LOAD_PHASE_READY,
                        done_bytes=response.ready.weight_bytes,
                        total_bytes=response.ready.weight_bytes,
                    )
                else:
                    yield response.progress

    async def _until_ready(self, pipeline_id: str) -> membership_pb2.Pipeline:
        reason = "its head does not answer"
        try:
            async with asyncio.timeout(READY_DEADLINE):
                async for topology in self._membership.watch():
                    for pipeline in topology.pipelines:
                        if pipeline.pipeline_id == pipeline_id:
                            if pipeline.state == membership_pb2.PIPELINE_STATE_READY:
                                return pipeline
                            reason = pipeline.reason or reason
        except TimeoutError:
            pass
        raise UnavailableError(f"the ring did not close within {READY_DEADLINE:.0f} s: {reason}")

    async def ensure(self, pipeline: membership_pb2.Pipeline, plan: model_pb2.Plan, epoch: int) -> None:
        """Sees to it that every stage behind the head holds its shard of ``plan``; loads what is missing.

        Raises:
            UnavailableError: a node is missing; names it.
            OverloadedError: its memory is short now.
        """
        planned: Planned | None = None
        for index, stage in enumerate(pipeline.stages[1:], start=1):
            node_id = stage.node_ids[0]
            try:
                if await self._holds(node_id, pipeline.pipeline_id, plan.digest):
                    continue
                if planned is None:
                    planned = await self._placer.pinned(plan)
                wanted = self._shard_request(pipeline, planned, index)
                wanted.pipeline.epoch = epoch
                log.info("loading stage %d of %s on %s again", index, pipeline.pipeline_id, node_id)
                async for _ in self._load_shard(node_id, wanted):
                    pass
            except OverloadedError:
                raise
            except TandemError as error:
                raise UnavailableError(
                    f"stage {index} on {self._name(node_id)} is missing: {error.message}", code="stage_missing"
                ) from error

    async def _holds(self, node_id: str, pipeline_id: str, digest: str) -> bool:
        stub = ShardServiceStub(self._membership.channel(node_id))
        answer = await rpc.unary(stub.ListShards(shard_pb2.ListShardsRequest(), timeout=rpc.UNARY_DEADLINE))
        return any(shard.pipeline_id == pipeline_id and shard.digest == digest for shard in answer.shards)

    def _name(self, node_id: str) -> str:
        try:
            return self._membership.node(node_id).name
        except NotFoundError:
            return node_id

    # -- unloading

    async def unload(self, name: str) -> int:
        """Frees a model on every node; bytes given back. Raises NotFoundError."""
        return await self._unload_stages(self.pipeline(name))

    async def _unload_stages(self, pipeline: membership_pb2.Pipeline) -> int:
        """Frees whatever the nodes hold of a pipeline, the head first; nodes that are gone hold nothing."""
        freed = 0
        for stage in pipeline.stages:
            node_id = stage.node_ids[0]
            try:
                if node_id == self._membership.node_id:
                    freed += await self._shards.unload(pipeline.pipeline_id)
                else:
                    stub = ShardServiceStub(self._membership.channel(node_id))
                    request = shard_pb2.UnloadShardRequest(pipeline_id=pipeline.pipeline_id, epoch=pipeline.epoch)
                    freed += (await rpc.unary(stub.UnloadShard(request, timeout=rpc.UNARY_DEADLINE))).freed_bytes
            except TandemError as error:
                log.info("%s frees nothing of %s: %s", node_id, pipeline.pipeline_id, error.message)
        return freed


def _entry(local: LocalModel, node_id: str) -> model_pb2.ModelEntry:
    return model_pb2.ModelEntry(
        model=types_pb2.ModelRef(model_id=local.model_id, revision=local.revision),
        on_disk_node_ids=[node_id],
        context_tokens=local.context_tokens,
        served_names=[served.name for served in local.served_names],
    )


def _finished(node_id: str, loaded: LoadedShard) -> model_pb2.NodeLoadProgress:
    return model_pb2.NodeLoadProgress(
        node_id=node_id,
        phase=model_pb2.LOAD_PHASE_READY,
        done_bytes=loaded.weight_bytes,
        total_bytes=loaded.weight_bytes,
    )
