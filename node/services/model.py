"""``ModelService``: models over the cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from grpc import aio

from node.models import Models
from tandem import rpc
from tandem.errors import TandemError
from tandem.v1 import model_pb2 as pb
from tandem.v1.model_pb2_grpc import ModelServiceServicer

Context = aio.ServicerContext[Any, Any]


class ModelServicer(ModelServiceServicer):
    """Serves one node's ``Models``."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def PlanModel(self, request: pb.PlanModelRequest, context: Context) -> pb.PlanModelResponse:  # noqa: N802
        """Where a model would go."""
        try:
            return pb.PlanModelResponse(plan=await self._models.plan(request))
        except TandemError as error:
            await rpc.abort(context, error)

    async def LoadModel(  # noqa: N802
        self, request: pb.LoadModelRequest, context: Context
    ) -> AsyncIterator[pb.LoadModelResponse]:
        """Plan, progress, ready; a cancelled call undoes what was loaded."""
        try:
            async with aclosing(self._models.load(request)) as responses:
                async for response in responses:
                    yield response
        except TandemError as error:
            await rpc.abort(context, error)

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Context) -> pb.UnloadModelResponse:  # noqa: N802
        """Frees a model on every node."""
        try:
            return pb.UnloadModelResponse(freed_bytes=await self._models.unload(request.name))
        except TandemError as error:
            await rpc.abort(context, error)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        """What is loaded, and what lies on disk."""
        return pb.ListModelsResponse(models=await self._models.entries(local_only=request.local_only))
