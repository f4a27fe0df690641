"""The stages of a pipeline, wherever they are: asks nodes, this one included, to load, to name and to free theirs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from node.cluster.membership import Membership
from node.engine.loading import LoadedShard
from node.placement import Planned
from node.shards import Shards
from tandem import rpc
from tandem.errors import NotFoundError, TandemError, UnavailableError, first_of
from tandem.v1 import membership_pb2, model_pb2, shard_pb2
from tandem.v1.shard_pb2_grpc import ShardServiceStub

log = logging.getLogger(__name__)

SILENCE_DEADLINE: Final = 30.0
"""Seconds for which a node that loads may say nothing; it reports far more often, however long a download takes."""


class Stages:
    """What one node asks of the others about their stages."""

    def __init__(self, membership: Membership, shards: Shards) -> None:
        self._membership = membership
        self._shards = shards

    async def load_all(
        self, pipeline: membership_pb2.Pipeline, planned: Planned
    ) -> AsyncGenerator[model_pb2.NodeLoadProgress]:
        """Loads all stages; progress as it comes.

        They load at the same time, but begin in the order of their node ids, each as soon as the one before has
        reserved its memory: of two loads that want the same nodes at once, one gets them all.

        Raises the first error, with its node's name before the message; what was loaded until then stays.
        """
        progress: asyncio.Queue[model_pb2.NodeLoadProgress | None] = asyncio.Queue(64)
        order = sorted(range(len(pipeline.stages)), key=lambda index: node_of(pipeline, index))
        reserved = [asyncio.Event() for _ in order]

        async def load(turn: int, index: int) -> None:
            node_id = node_of(pipeline, index)
            if turn > 0:
                await reserved[turn - 1].wait()
            try:
                async with aclosing(self.load(node_id, request_for(pipeline, planned, index))) as events:
                    async for event in events:
                        reserved[turn].set()
                        await progress.put(event)
            except TandemError as error:
                error.message = f"{self.name(node_id)}: {error.message}"
                error.args = (error.message,)
                raise

        async def load_all() -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for turn, index in enumerate(order):
                        tasks.create_task(load(turn, index))
            except* TandemError as errors:
                raise first_of(errors) from None
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

    async def load(
        self, node_id: str, request: shard_pb2.LoadShardRequest
    ) -> AsyncGenerator[model_pb2.NodeLoadProgress]:
        """Has one node load its stage; its progress, which begins as soon as its memory is reserved and ends with
        ``READY``. Closing the iterator gives the load up. Raises as ``Shards.load``, and UnavailableError when the
        node cannot be reached or says nothing for ``SILENCE_DEADLINE``."""
        if node_id == self._membership.node_id:
            async with aclosing(self._shards.load(request)) as events:
                async for event in events:
                    yield _finished(node_id, event.weight_bytes) if isinstance(event, LoadedShard) else event
            return
        call = ShardServiceStub(self._membership.channel(node_id)).LoadShard(request)
        async with aclosing(rpc.responses(call)) as responses:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_DEADLINE):
                        response = await anext(responses, None)
                except TimeoutError:
                    raise UnavailableError(f"it has said nothing for {SILENCE_DEADLINE:.0f} s") from None
                if response is None:
                    return
                ready = response.HasField("ready")
                yield _finished(node_id, response.ready.weight_bytes) if ready else response.progress

    async def holds(self, node_id: str, pipeline_id: str, digest: str) -> bool:
        """Whether another node holds its stage of a pipeline, loaded for the plan with that digest. Raises
        NotFoundError and UnavailableError when the node cannot be asked."""
        stub = ShardServiceStub(self._membership.channel(node_id))
        answer = await rpc.unary(stub.ListShards(shard_pb2.ListShardsRequest(), timeout=rpc.UNARY_DEADLINE))
        return any(shard.pipeline_id == pipeline_id and shard.digest == digest for shard in answer.shards)

    async def unload_all(self, pipeline: membership_pb2.Pipeline) -> int:
        """Frees whatever the nodes hold of a pipeline, the head first; bytes given back. A node that cannot be reached
        learns of it when it is back."""
        freed = 0
        for index in range(len(pipeline.stages)):
            node_id = node_of(pipeline, index)
            try:
                if node_id == self._membership.node_id:
                    freed += await self._shards.unload(pipeline.pipeline_id)
                else:
                    stub = ShardServiceStub(self._membership.channel(node_id))
                    request = shard_pb2.UnloadShardRequest(pipeline_id=pipeline.pipeline_id, epoch=pipeline.epoch)
                    freed += (await rpc.unary(stub.UnloadShard(request, timeout=rpc.UNARY_DEADLINE))).freed_bytes
            except TandemError as error:
                log.info("%s frees nothing of %s: %s", self.name(node_id), pipeline.pipeline_id, error.message)
        return freed

    def name(self, node_id: str) -> str:
        """A node's name for people; its id where this node does not know it."""
        try:
            return self._membership.node(node_id).name
        except NotFoundError:
            return node_id


def node_of(pipeline: membership_pb2.Pipeline, index: int) -> str:
    """The id of the node that holds a stage."""
    return pipeline.stages[index].node_ids[0]


def request_for(pipeline: membership_pb2.Pipeline, planned: Planned, index: int) -> shard_pb2.LoadShardRequest:
    """What a node is told to load its stage."""
    return shard_pb2.LoadShardRequest(
        pipeline=pipeline,
        plan=planned.plan,
        kv_budget_bytes=planned.kv_bytes[index],
        weight_bytes=planned.weight_bytes[index],
        headers=planned.headers.dump(),
    )


def _finished(node_id: str, weight_bytes: int) -> model_pb2.NodeLoadProgress:
    return model_pb2.NodeLoadProgress(
        node_id=node_id, phase=model_pb2.LOAD_PHASE_READY, done_bytes=weight_bytes, total_bytes=weight_bytes
    )
