"""The cluster as the gateway uses it: a name becomes a route to a head, a request a running generation."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from grpc import aio

from gateway.cluster.heads import HeadChannels
from gateway.cluster.loader import ModelLoader, names_of
from gateway.cluster.view import Route, describe, head_of, is_ready, pipelines_of
from gateway.cluster.watcher import Browse, TopologyWatcher
from gateway.errors import from_call, is_transport, shorten
from gateway.generation import Generation, PromptCount
from gateway.limits import Limits
from tandem.errors import NotFoundError, TandemError, UnavailableError
from tandem.settings import GatewaySettings
from tandem.v1 import generation_pb2, membership_pb2, model_pb2

_SETTLE_SECONDS: Final = 10.0
"""Time that the news of a loaded model may take to reach the node that is followed."""


@dataclass(frozen=True)
class ServedModel:
    """A model that a request may name: served now, or on disk and loaded when asked for."""

    name: str
    context_tokens: int
    loaded: bool


class ClusterClient:
    """Follows the cluster while it is entered. Leaving it ends every call to a node."""

    def __init__(self, settings: GatewaySettings, limits: Limits, browse: Browse | None = None) -> None:
        self._settings = settings
        self._limits = limits
        self._browse = browse
        self._watcher = TopologyWatcher(settings.nodes, limits.dial)
        self._heads = HeadChannels(limits.dial)
        self._loader = ModelLoader(lambda: self._watcher.channel, limits.load_idle)
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._running.append(self._tasks.create_task(self._watcher.run()))
        if self._browse is not None and self._settings.mdns and not self._settings.nodes:
            announcements = self._watcher.follow_announcements(self._browse, self._settings.cluster)
            self._running.append(self._tasks.create_task(announcements))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running:
            task.cancel()
        await self._loader.close()
        try:
            # A task group would wrap an error of the body in a group of one; a cancellation may be of its own making.
            cancelled = isinstance(error, asyncio.CancelledError)
            await self._tasks.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))
        finally:
            await self._heads.close()

    async def route(self, model: str) -> Route:
        """The way to a model's head. A model that lies on disk is loaded first, once for all who ask for it.

        Raises ``NotFoundError`` for a name that nobody knows and ``UnavailableError`` for one that is not ready.
        """
        loaded = await self._loader.wait(model)
        if loaded is not None:
            await self._finish_load(loaded, model)
        pipelines = pipelines_of(await self._topology(), model)
        if not pipelines:
            entry = await self._loader.on_disk(model)
            if entry is None:
                raise await self._unknown(model)
            await self._finish_load(await self._loader.load(model, entry), model)
            pipelines = pipelines_of(await self._topology(), model)
        ready = [pipeline for pipeline in pipelines if is_ready(pipeline)]
        if not ready:
            raise _not_ready(pipelines[0] if pipelines else None, model)
        return self._route_to(random.choice(ready))

    async def open(self, route: Route, request: generation_pb2.GenerateRequest) -> Generation | PromptCount:
        """Starts a generation on the route's head; returns when the head has accepted it.

        A connection that turns out to be broken is made anew once. Cancellation ends the call.
        """
        channel = await self._heads.channel(route.head)
        try:
            return await self._start(channel, request)
        except aio.AioRpcError as error:
            if not is_transport(error):
                raise from_call(error) from error
            self._heads.forget(route.head, channel)
        try:
            return await self._start(await self._heads.channel(route.head), request)
        except aio.AioRpcError as error:
            raise from_call(error) from error

    async def models(self) -> list[ServedModel]:
        """What a request may name now: served models, and those that lie on disk and are not loaded."""
        topology = await self._topology()
        context = {}
        on_disk = []
        for entry in await self._entries():
            for name in names_of(entry):
                context[name] = entry.context_tokens
                if entry.on_disk_node_ids and not pipelines_of(topology, name):
                    on_disk.append(name)
        served = [item.name for pipeline in topology.pipelines if is_ready(pipeline) for item in pipeline.served_names]
        return [ServedModel(name, context.get(name, 0), name in served) for name in dict.fromkeys((*served, *on_disk))]

    async def model(self, name: str) -> ServedModel:
        """One of ``models``. Raises what ``route`` would raise for a name that is not among them, but loads nothing."""
        for model in await self.models():
            if model.name == name:
                return model
        pipelines = pipelines_of(await self._topology(), name)
        raise _not_ready(pipelines[0], name) if pipelines else await self._unknown(name)

    async def missing(self) -> list[str]:
        """What keeps the cluster from answering, for people; empty when at least one model answers."""
        topology = self._watcher.topology
        if topology is None:
            return [self._watcher.problem]
        if not topology.pipelines:
            return ["no model is loaded"]
        reasons = []
        for pipeline in topology.pipelines:
            if not is_ready(pipeline):
                reasons.append(describe(pipeline))
                continue
            try:
                await self._heads.channel(self._route_to(pipeline).head)
            except TandemError as error:
                reasons.append(error.message)
            else:
                return []
        return reasons

    async def _start(self, channel: aio.Channel, request: generation_pb2.GenerateRequest) -> Generation | PromptCount:
        no_tokens = request.HasField("max_tokens") and not request.max_tokens
        generation = (PromptCount if no_tokens else Generation)(channel, request, self._limits)
        try:
            await generation.accepted()
        except BaseException:
            generation.close()
            raise
        return generation

    async def _topology(self) -> membership_pb2.Topology:
        """The current view; waits a little for the first one."""
        await self._watcher.wait_until(lambda: self._watcher.topology is not None, self._limits.dial)
        if self._watcher.topology is None:
            raise UnavailableError(f"no node of the cluster answers: {self._watcher.problem}", retry_after=2)
        return self._watcher.topology

    async def _finish_load(self, loaded: membership_pb2.Pipeline, model: str) -> None:
        """Waits until the view shows what was loaded."""

        def arrived() -> bool:
            topology = self._watcher.topology
            return topology is not None and any(map(is_ready, pipelines_of(topology, model)))

        if not await self._watcher.wait_until(arrived, _SETTLE_SECONDS):
            raise _not_ready(loaded, model)

    async def _entries(self) -> list[model_pb2.ModelEntry]:
        """The list of models, empty when no node gives one: what is served is known without it."""
        try:
            return await self._loader.entries()
        except TandemError:
            return []

    def _route_to(self, pipeline: membership_pb2.Pipeline) -> Route:
        topology = self._watcher.topology
        head = head_of(topology, pipeline) if topology is not None else None
        if head is None:
            raise UnavailableError(f"the head of {pipeline.pipeline_id} is not known here")
        return Route(pipeline, head)

    async def _unknown(self, model: str) -> NotFoundError:
        names = ", ".join(item.name for item in await self.models()) or "none"
        return NotFoundError(f"The model '{shorten(model)}' does not exist. There is: {names}.", code="model_not_found")


def _not_ready(pipeline: membership_pb2.Pipeline | None, model: str) -> UnavailableError:
    if pipeline is None:
        return UnavailableError(f"{model} went away", code="model_unavailable")
    loading = pipeline.state == membership_pb2.PIPELINE_STATE_LOADING
    return UnavailableError(
        describe(pipeline), code="model_loading" if loading else "model_degraded", retry_after=5 if loading else 2
    )
