"""``GenerationService``: what gateways call, on the head of a pipeline."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from grpc import aio

from node.serving.head import PipelineHead
from tandem import rpc
from tandem.errors import TandemError
from tandem.v1 import generation_pb2 as pb
from tandem.v1.generation_pb2_grpc import GenerationServiceServicer

Context = aio.ServicerContext[Any, Any]


class GenerationServicer(GenerationServiceServicer):
    """Serves the pipelines whose head is this node.

    Args:
        head_for: finds the head for a served name; raises NotFoundError, or UnavailableError naming the head's
            address when that is another node.
        heads: all heads of this node.
    """

    def __init__(self, head_for: Callable[[str], PipelineHead], heads: Callable[[], list[PipelineHead]]) -> None:
        self._head_for = head_for
        self._heads = heads

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Events until ``finished`` or ``failed``; dropping the stream ends the generation within one step."""
        if not request.generation_id:
            request.generation_id = uuid.uuid4().hex
        if not request.created_at:
            request.created_at = int(time.time())
        if not request.sampling.HasField("seed"):
            request.sampling.seed = uuid.uuid4().int & 0x7FFFFFFFFFFFFFFF
        try:
            async with aclosing(self._head_for(request.model).generate(request)) as events:
                async for ready in events:
                    yield pb.GenerateResponse(events=ready)
        except TandemError as error:
            await rpc.abort(context, error)

    async def CancelGeneration(  # noqa: N802
        self, request: pb.CancelGenerationRequest, context: Context
    ) -> pb.CancelGenerationResponse:
        """Ends a generation of whichever pipeline."""
        running = any(head.cancel(request.generation_id) for head in self._heads())
        return pb.CancelGenerationResponse(was_running=running)

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:  # noqa: N802
        """Renders the prompt and counts."""
        try:
            prompt = await self._head_for(request.request.model).prompt(request.request)
            return pb.CountTokensResponse(prompt_tokens=len(prompt.ids))
        except TandemError as error:
            await rpc.abort(context, error)
