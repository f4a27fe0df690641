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
from node.cluster.pipelines import head_of, members_of
from node.cluster.store import ModelStore
from node.placement import Placer, Wish
from node.serving.prompt import read_template
from node.shards import Shards
from node.stages import Stages
from tandem import rpc
from tandem.errors import ConflictError, NotFoundError, UnavailableError
from tandem.v1 import membership_pb2, model_pb2, types_pb2
from tandem.v1.model_pb2_grpc import ModelServiceStub

log = logging.getLogger(__name__)

READY_DEADLINE: Final = 60.0
"""Seconds from the last stage's load until the ring must be closed; and for a pipeline that heals to serve again."""
FORGOTTEN_DEADLINE: Final = 2.0
"""Seconds from unloading until no node may speak of the pipeline any more."""


class Models:
    """Coordinates models for one node's ``ModelService``."""

    def __init__(
        self, membership: Membership, shards: Shards, stages: Stages, store: ModelStore, placer: Placer
    ) -> None:
        self._membership = membership
        self._shards = shards
        self._stages = stages
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
        return (await self._placer.place(request.model, wish)).plan

    # -- loading

    async def load(self, request: model_pb2.LoadModelRequest) -> AsyncGenerator[model_pb2.LoadModelResponse]:
        """The plan, progress of each node, and the pipeline once it serves. A model that serves already is ready at
        once; one whose head this node was until it was started again is waited for. Whatever fails, everything that
        was loaded for it is given back.

        Raises:
            UnavailableError: it is being loaded by way of another node, or is loaded and cannot serve; says why.
            ConflictError: other models are served under all of its names.
            Whatever ``plan`` raises, and whatever a node says of its part, with the node's name before it.
        """
        model_id = request.model.model_id or request.plan.model.model_id
        async with self._loading.setdefault(model_id, asyncio.Lock()):
            await self._membership.settled()
            await self._taken_up(model_id)
            if (serving := self._serving(model_id)) is not None:
                yield model_pb2.LoadModelResponse(ready=serving)
                return
            if request.HasField("plan"):
                planned = await self._placer.adopt(request.plan, request.context_tokens)
            else:
                wish = Wish(request.context_tokens, tuple(request.node_ids), request.stage_count)
                planned = await self._placer.place(request.model, wish)
            yield model_pb2.LoadModelResponse(plan=planned.plan)
            pipeline = self._new_pipeline(request, planned.model, planned.plan)
            done = False
            try:
                async with aclosing(self._stages.load_all(pipeline, planned)) as loading:
                    async for progress in loading:
                        yield model_pb2.LoadModelResponse(progress=progress)
                ready = await self._until_ready(pipeline.pipeline_id)
                done = True
                yield model_pb2.LoadModelResponse(ready=ready)
            finally:
                if not done:
                    await self._unload(pipeline)

    async def _taken_up(self, model_id: str) -> None:
        """Waits for a pipeline of the model that the others are about to make this node the head of again, until it
        serves, is gone, or cannot heal because another of its nodes is lost; at most ``READY_DEADLINE`` seconds."""
        awaited: set[str] = set()
        try:
            async with asyncio.timeout(READY_DEADLINE), aclosing(self._membership.watch()) as views:
                async for topology in views:
                    lost = {node.node_id for node in topology.nodes if node.state == membership_pb2.NODE_STATE_LOST}
                    awaited |= {each.pipeline_id for each in topology.pipelines if self._was_head(each, model_id)}
                    if not any(
                        each.pipeline_id in awaited
                        and each.state != membership_pb2.PIPELINE_STATE_READY
                        and not lost & members_of(each)
                        for each in topology.pipelines
                    ):
                        return
        except TimeoutError:
            log.info("%s has not been taken up again within %.0f s", model_id, READY_DEADLINE)

    def _was_head(self, pipeline: membership_pb2.Pipeline, model_id: str) -> bool:
        return (
            pipeline.model.model_id == model_id
            and pipeline.state == membership_pb2.PIPELINE_STATE_DEGRADED
            and head_of(pipeline) == self._membership.node_id
            and all(held.pipeline_id != pipeline.pipeline_id for held in self._shards.held())
        )

    def _serving(self, model_id: str) -> membership_pb2.Pipeline | None:
        """The pipeline of a model that serves; None where there is none. Raises UnavailableError for one that does
        not."""
        try:
            pipeline = self.pipeline(model_id)
        except NotFoundError:
            return None
        if pipeline.state == membership_pb2.PIPELINE_STATE_READY:
            return pipeline
        if pipeline.state == membership_pb2.PIPELINE_STATE_LOADING:
            raise UnavailableError(
                f"{model_id} is being loaded already {pipeline.reason}".strip(), code="model_loading"
            )
        raise UnavailableError(
            f"{model_id} is loaded and cannot serve: {pipeline.reason}. Unloading it frees what is left of it",
            code="model_degraded",
        )

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
        wanted = [*names, *request.served_names]
        names = [served for served in wanted if served.name not in taken]
        if not names:
            all_names = ", ".join(served.name for served in wanted)
            raise ConflictError(f"other models are served as {all_names}: give this one a name of its own")
        return membership_pb2.Pipeline(
            pipeline_id=f"{local.folder.name[:24]}-{uuid.uuid4().hex[:8]}",
            model=plan.model,
            served_names=names,
            stages=plan.stages,
            epoch=1,
            state=membership_pb2.PIPELINE_STATE_LOADING,
        )

    async def _until_ready(self, pipeline_id: str) -> membership_pb2.Pipeline:
        reason = "its head does not answer"
        try:
            async with asyncio.timeout(READY_DEADLINE), aclosing(self._membership.watch()) as views:
                async for topology in views:
                    for pipeline in topology.pipelines:
                        if pipeline.pipeline_id == pipeline_id:
                            if pipeline.state == membership_pb2.PIPELINE_STATE_READY:
                                return pipeline
                            reason = pipeline.reason or reason
        except TimeoutError:
            pass
        raise UnavailableError(f"the ring did not close within {READY_DEADLINE:.0f} s: {reason}")

    # -- unloading

    async def unload(self, name: str) -> int:
        """Frees a model on every node; bytes given back. Raises NotFoundError."""
        return await self._unload(self.pipeline(name))

    async def _unload(self, pipeline: membership_pb2.Pipeline) -> int:
        """Frees a pipeline, and waits a little until no node speaks of it any more: whoever loads the model next must
        not find it."""
        freed = await self._stages.unload_all(pipeline)
        try:
            async with asyncio.timeout(FORGOTTEN_DEADLINE), aclosing(self._membership.watch()) as views:
                async for topology in views:
                    if all(each.pipeline_id != pipeline.pipeline_id for each in topology.pipelines):
                        break
        except TimeoutError:
            log.info("%s is unloaded, but a node that cannot be reached held a part of it", pipeline.pipeline_id)
        return freed


def _entry(local: LocalModel, node_id: str) -> model_pb2.ModelEntry:
    return model_pb2.ModelEntry(
        model=types_pb2.ModelRef(model_id=local.model_id, revision=local.revision),
        on_disk_node_ids=[node_id],
        context_tokens=local.context_tokens,
        served_names=[served.name for served in local.served_names],
    )
