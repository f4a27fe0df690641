"""``ShardService``: the shards of this node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from grpc import aio

from node.engine.loading import LoadedShard
from node.held import HeldShard
from node.shards import Shards
from tandem import rpc
from tandem.errors import TandemError
from tandem.v1 import shard_pb2 as pb
from tandem.v1.shard_pb2_grpc import ShardServiceServicer

Context = aio.ServicerContext[Any, Any]


class ShardServicer(ShardServiceServicer):
    """Serves one node's ``Shards``."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def LoadShard(  # noqa: N802
        self, request: pb.LoadShardRequest, context: Context
    ) -> AsyncIterator[pb.LoadShardResponse]:
        """Progress, then what the shard says of itself; a cancelled call gives the load up."""
        try:
            async with aclosing(self._shards.load(request)) as events:
                async for event in events:
                    if isinstance(event, LoadedShard):
                        yield pb.LoadShardResponse(ready=_ready(event))
                    else:
                        yield pb.LoadShardResponse(progress=event)
        except TandemError as error:
            await rpc.abort(context, error)

    async def UnloadShard(self, request: pb.UnloadShardRequest, context: Context) -> pb.UnloadShardResponse:  # noqa: N802
        """Frees a shard."""
        try:
            return pb.UnloadShardResponse(freed_bytes=await self._shards.unload(request.pipeline_id))
        except TandemError as error:
            await rpc.abort(context, error)

    async def ListShards(self, request: pb.ListShardsRequest, context: Context) -> pb.ListShardsResponse:  # noqa: N802
        """Every shard with live figures."""
        return pb.ListShardsResponse(shards=await asyncio.gather(*map(self._shard, self._shards.held())))

    async def _shard(self, held: HeldShard) -> pb.Shard:
        figures = await self._shards.statistics(held)
        stage = held.pipeline.stages[held.index]
        return pb.Shard(
            pipeline_id=held.pipeline_id,
            model=held.pipeline.model,
            segments=stage.segments,
            epoch=held.pipeline.epoch,
            weight_bytes=held.loaded.weight_bytes,
            kv_bytes=figures.kv_bytes,
            live_sequences=figures.live_sequences,
            completed_steps=figures.completed_steps,
            mean_decode_batch=figures.mean_decode_batch,
            digest=held.loaded.digest,
            decode_steps=figures.decode_steps,
            pending_steps=self._shards.pending_steps,
        )


def _ready(loaded: LoadedShard) -> pb.ShardReady:
    return pb.ShardReady(
        weight_bytes=loaded.weight_bytes,
        kv_bytes_per_token=loaded.kv_bytes_per_token,
        trimmable=loaded.trimmable,
        batchable=loaded.batchable,
        digest=loaded.digest,
    )
