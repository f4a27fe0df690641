"""The node daemon: wires membership, models, shards and services to one gRPC server, and runs until told to end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

from grpc import aio

from node.cluster.addresses import listen_endpoints
from node.cluster.hints import Hints
from node.cluster.identity import Identity
from node.cluster.membership import LocalState, Membership
from node.cluster.store import ModelStore
from node.engine.device import DeviceFacts, measure_device
from node.engine.worker import Worker
from node.held import HeldShard, Neighbours
from node.keeper import Keeper
from node.links.base import Pipe
from node.links.grpc import SERVICE as PIPELINE_SERVICE
from node.links.grpc import DialledPipe, add_pipeline_service
from node.models import Models
from node.placement import Placer
from node.services.generation import GenerationServicer
from node.services.membership import MembershipServicer
from node.services.model import ModelServicer
from node.services.shard import ShardServicer
from node.serving.head import PipelineHead
from node.serving.ticket import Limits
from node.shards import Shards
from node.stages import Stages
from tandem import daemon, rpc
from tandem.discovery import Announcement
from tandem.errors import ConflictError, NotFoundError, StageLostError, TandemError, UnavailableError, first_of
from tandem.settings import NodeSettings, join_address, split_address
from tandem.v1 import membership_pb2 as pb
from tandem.v1 import types_pb2
from tandem.v1.generation_pb2_grpc import add_GenerationServiceServicer_to_server
from tandem.v1.membership_pb2_grpc import add_MembershipServiceServicer_to_server
from tandem.v1.model_pb2_grpc import add_ModelServiceServicer_to_server
from tandem.v1.shard_pb2_grpc import add_ShardServiceServicer_to_server
from tandem.version import __version__

log = logging.getLogger(__name__)

WORKER_SECONDS: Final = 1.5
"""For the MLX thread to end what it does when the daemon stops."""
SERVICES: Final = (
    "tandem.v1.MembershipService",
    "tandem.v1.ModelService",
    "tandem.v1.ShardService",
    "tandem.v1.GenerationService",
    PIPELINE_SERVICE,
)


class Node:
    """One node of the cluster, from settings to services. ``serve`` does everything."""

    def __init__(
        self, settings: NodeSettings, identity: Identity, worker: Worker, device: DeviceFacts, port: int
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._worker = worker
        self._device = device
        self._port = port
        store = ModelStore(settings.model_dirs)
        self._hints = Hints(settings.peers)
        self._membership = Membership(
            identity=identity,
            name=settings.name,
            cluster=settings.cluster,
            endpoints=self._endpoints,
            local=self._local_state,
            hints=self._hints,
            version=__version__,
            on_fenced=self._on_fenced,
        )
        self._shards = Shards(
            worker,
            device.memory_bytes,
            lambda: identity.incarnation,
            self._limits,
            Neighbours(
                node_id=identity.node_id,
                name_of=self._name_of,
                dial=self._dial,
                ensure=self._ensure,
                store=store,
                changed=self._membership.notify,
            ),
        )
        placer = Placer(worker, self._membership, store, settings.dtype)
        stages = Stages(self._membership, self._shards)
        self._models = Models(self._membership, self._shards, stages, store, placer)
        self._keeper = Keeper(self._shards, stages, placer)

    async def serve(self, server: aio.Server) -> None:
        """Serves on a server that is bound and not started, until cancelled; then leaves the cluster and frees
        everything.

        Raises:
            ConflictError: the node's id is in use.
        """
        async with AsyncExitStack() as stack:
            health = rpc.add_health_and_reflection(server, SERVICES)
            add_MembershipServiceServicer_to_server(MembershipServicer(self._membership), server)
            add_ModelServiceServicer_to_server(ModelServicer(self._models), server)
            add_ShardServiceServicer_to_server(ShardServicer(self._shards), server)
            add_GenerationServiceServicer_to_server(GenerationServicer(self._head_for, self._heads), server)
            add_pipeline_service(server, self._shards.accept)
            await server.start()
            stack.push_async_callback(server.stop, 0.5)
            stack.push_async_callback(self._shards.close)
            await rpc.set_serving(health, ("", *SERVICES), serving=True)
            try:
                async with asyncio.TaskGroup() as tasks:
                    if self._settings.mdns:
                        tasks.create_task(self._announce())
                    tasks.create_task(self._follow_topology())
                    tasks.create_task(self._keeper.run())
                    tasks.create_task(self._say_ready())
                    await self._membership.run()
            except* TandemError as errors:
                raise first_of(errors) from None

    async def _say_ready(self) -> None:
        host, _ = split_address(self._settings.listen)
        where = join_address(host, self._port)
        daemon.say_ready(f"node={self._settings.name} id={self._identity.node_id} listen={where}")

    # -- membership

    def _endpoints(self) -> tuple[types_pb2.Endpoint, ...]:
        host, _ = split_address(self._settings.listen)
        return listen_endpoints(host, self._port)

    def _local_state(self) -> LocalState:
        return LocalState(
            capabilities=pb.NodeCapabilities(
                memory_bytes=self._shards.memory_bytes,
                free_memory_bytes=self._shards.free_bytes,
                memory_bandwidth_bytes_per_second=self._device.memory_bandwidth,
                device=self._device.device,
                mlx_version=self._device.mlx_version,
                mlx_lm_version=self._device.mlx_lm_version,
            ),
            state=pb.NODE_STATE_ALIVE,  # whether it is stuck, membership tells from the steps
            state_reason="",
            completed_steps=self._worker.completed_steps,
            pending_steps=self._worker.pending_steps,
            step_seconds=self._worker.step_seconds,
            pipelines=tuple(_without_templates(held.pipeline) for held in self._shards.held()),
        )

    def _on_fenced(self, reason: str) -> None:
        log.warning("fenced: %s; all work is dropped", reason)
        for held in self._shards.held():
            if held.head is not None:
                held.head.lost(StageLostError(f"this node was given up by the others: {reason}"))

    async def _announce(self) -> None:
        host, _ = split_address(self._settings.listen)
        async with Announcement(
            self._settings.cluster,
            node_id=self._identity.node_id,
            listen=host,
            port=self._port,
            on_found=self._hints.found,
            on_gone=self._hints.gone,
        ):
            await asyncio.Event().wait()

    async def _follow_topology(self) -> None:
        """Tells heads at once which of their nodes are gone, and when trying again makes sense."""
        before: dict[str, tuple[int, int]] = {}
        async with aclosing(self._membership.watch()) as views:
            async for topology in views:
                nodes = {node.node_id: (node.incarnation, int(node.state)) for node in topology.nodes}
                if nodes != before:
                    before = nodes
                    self._tell_heads(
                        {each.node_id: each for each in topology.nodes if each.state == pb.NODE_STATE_LOST}
                    )

    def _tell_heads(self, lost: Mapping[str, pb.Node]) -> None:
        for head in self._heads():
            head.nudge()
            for index, stage in enumerate(head.pipeline.stages):
                gone = lost.get(stage.node_ids[0])
                if gone is not None:
                    head.lost(StageLostError(f"stage {index} on node {gone.name} is lost: {gone.state_reason}"))

    # -- what shards need

    def _limits(self, kv_tokens: int, batchable: bool) -> Limits:
        return Limits(
            kv_tokens=kv_tokens,
            prefill_chunk=self._settings.prefill_chunk,
            max_running=self._settings.max_sequences,
            max_waiting=self._settings.max_waiting,
            batchable=batchable,
        )

    def _name_of(self, node_id: str) -> str:
        try:
            return f"node {self._membership.node(node_id).name}"
        except NotFoundError:
            return f"node {node_id}"

    async def _dial(self, node_id: str) -> Pipe:
        if node_id == self._identity.node_id:
            raise UnavailableError("a link to this very node")
        return DialledPipe(rpc.make_channel(self._membership.address(node_id)), own_channel=True)

    async def _ensure(self, head: HeldShard, epoch: int) -> None:
        await self._keeper.stages(head, epoch)

    # -- heads

    def _heads(self) -> list[PipelineHead]:
        return [held.head for held in self._shards.held() if held.head is not None]

    def _head_for(self, name: str) -> PipelineHead:
        try:
            return self._shards.head_for(name)
        except NotFoundError:
            pipeline = self._models.pipeline(name)
            head = self._membership.node(pipeline.stages[0].node_ids[0])
            ways = ", ".join(join_address(end.host, end.port) for end in head.endpoints)
            raise UnavailableError(f"{name} is served by node {head.name} at {ways}", code="not_the_head") from None


def _without_templates(pipeline: pb.Pipeline) -> pb.Pipeline:
    """A copy for beats: templates are long, and only the head needs them."""
    copy = pb.Pipeline()
    copy.CopyFrom(pipeline)
    for served in copy.served_names:
        served.chat_template = ""
    return copy


async def _bind(server: aio.Server, address: str) -> int:
    """Binds the address; the port. Raises ConflictError when it is in use, SettingsError when it is not to be had."""
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        # gRPC does not say why.
        await asyncio.to_thread(daemon.check_listen, address)
        raise ConflictError(f"cannot listen on {address}")
    return port


@asynccontextmanager
async def _worker_thread() -> AsyncIterator[Worker]:
    worker = Worker()
    try:
        yield worker
    finally:
        stopped = await asyncio.to_thread(worker.stop, WORKER_SECONDS)
        if not stopped:
            log.warning("the MLX thread did not end in time")


async def _main(settings: NodeSettings) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with Identity(settings.data_dir) as identity:
        server = rpc.make_server()
        port = await _bind(server, settings.listen)
        async with _worker_thread() as worker:
            device = await worker.run(lambda: measure_device(settings.memory))
            await Node(settings, identity, worker, device, port).serve(server)


def run(settings: NodeSettings) -> None:
    """Runs the daemon in the foreground until SIGINT or SIGTERM; says on stdout when it listens, and where.

    Raises ``TandemError`` for what keeps it from running.
    """
    rpc.tune_process()
    try:
        rpc.run(_main(settings))
    except asyncio.CancelledError:
        return
