"""A node with the real gRPC services and scripted answers: the gateway's tests stand on it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from grpc import aio

from tandem import rpc
from tandem.errors import InvalidRequestError, NotFoundError, TandemError
from tandem.v1 import (
    generation_pb2,
    generation_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    types_pb2,
)

Event = generation_pb2.GenerationEvent
Events = list[Event]
Script = Callable[[generation_pb2.GenerateRequest], AsyncIterator[Events]]


def accepted(prompt_tokens: int = 11, warnings: Sequence[str] = ()) -> Event:
    return Event(accepted=generation_pb2.Accepted(prompt_tokens=prompt_tokens, pipeline_id="p1", warnings=warnings))


def content(text: str, *token_ids: int, logprobs: Sequence[generation_pb2.TokenLogprobs] = ()) -> Event:
    return Event(content=text, token_ids=token_ids, logprobs=logprobs)


def reasoning(text: str) -> Event:
    return Event(reasoning=text)


def call(index: int, name: str, *pieces: str, warning: str = "", whole: str | None = None) -> Events:
    call_id = f"call_{'abcdefgh'[index] * 20}"
    arguments = "".join(pieces) if whole is None else whole
    return [
        Event(tool_call_start=generation_pb2.ToolCallStart(index=index, tool_call_id=call_id, name=name)),
        *(
            Event(tool_call_arguments=generation_pb2.ToolCallArguments(index=index, arguments_delta=piece))
            for piece in pieces
        ),
        Event(
            tool_call_end=generation_pb2.ToolCallEnd(
                index=index,
                tool_call=generation_pb2.ToolCall(tool_call_id=call_id, name=name, arguments_json=arguments),
                warning=warning,
            )
        ),
    ]


def finished(
    reason: generation_pb2.FinishReason = generation_pb2.FINISH_REASON_STOP,
    prompt: int = 11,
    completion: int = 7,
    cached: int = 3,
    thought: int = 2,
) -> Event:
    return Event(
        finished=generation_pb2.Finished(
            reason=reason,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=cached,
            reasoning_tokens=thought,
        )
    )


def failed(code: str, message: str = "it broke", param: str = "", retry_after: int = 0) -> Event:
    return Event(failed=generation_pb2.Failed(code=code, message=message, param=param, retry_after_seconds=retry_after))


def logprobs_of(token_id: int, *top: tuple[int, bytes, float]) -> generation_pb2.TokenLogprobs:
    best = [generation_pb2.TokenLogprob(token_id=item[0], token=item[1], logprob=item[2]) for item in top]
    own = next(item.logprob for item in best if item.token_id == token_id)
    return generation_pb2.TokenLogprobs(logprob=own, top=best)


def say(*steps: Event | Events, warnings: Sequence[str] = ()) -> Script:
    """A script that accepts, sends each step as one message, and finishes unless a step has ended it."""

    async def script(_request: generation_pb2.GenerateRequest) -> AsyncIterator[Events]:
        yield [accepted(warnings=warnings)]
        ended = False
        for step in steps:
            events = step if isinstance(step, list) else [step]
            ended = ended or any(event.HasField("finished") or event.HasField("failed") for event in events)
            yield events
        if not ended:
            yield [finished()]

    return script


HELLO = say(content("Hello"), content(" there"), content("."))


def node(port: int, node_id: str = "n1") -> membership_pb2.Node:
    return membership_pb2.Node(
        node_id=node_id,
        incarnation=1,
        name=f"name-of-{node_id}",
        endpoints=[types_pb2.Endpoint(host="127.0.0.1", port=port)],
        state=membership_pb2.NODE_STATE_ALIVE,
        version="0.1.0",
    )


def pipeline(
    *names: str,
    pipeline_id: str = "p1",
    head: str = "n1",
    state: membership_pb2.PipelineState = membership_pb2.PIPELINE_STATE_READY,
    reason: str = "",
) -> membership_pb2.Pipeline:
    return membership_pb2.Pipeline(
        pipeline_id=pipeline_id,
        model=types_pb2.ModelRef(model_id="org/model", revision="abc"),
        served_names=[membership_pb2.ServedName(name=name) for name in names],
        stages=[membership_pb2.Stage(node_ids=[head]), membership_pb2.Stage(node_ids=["elsewhere"])],
        epoch=1,
        state=state,
        reason=reason,
    )


async def until(condition: Callable[[], Any]) -> None:
    """Returns as soon as the condition, awaited if need be, holds; fails when it does not within ten seconds."""
    async with asyncio.timeout(10):
        while True:
            held = condition()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(0.005)


class ScriptedNode(
    generation_pb2_grpc.GenerationServiceServicer,
    membership_pb2_grpc.MembershipServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
):
    """One node. ``script`` answers ``Generate``; ``show`` publishes another topology; ``on_load`` answers a load."""

    def __init__(self) -> None:
        self.script: Script = HELLO
        self.requests: list[generation_pb2.GenerateRequest] = []
        self.ended: list[str] = []
        self.topology = membership_pb2.Topology()
        self.entries: list[model_pb2.ModelEntry] | None = []
        self.loads: list[model_pb2.LoadModelRequest] = []
        self.on_load: Callable[[], AsyncIterator[model_pb2.LoadModelResponse]] | None = None
        self.port = 0
        self._changed = asyncio.Event()
        self._server = rpc.make_server()

    async def start(self, port: int = 0) -> None:
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(self, self._server)
        membership_pb2_grpc.add_MembershipServiceServicer_to_server(self, self._server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def show(self, *pipelines: membership_pb2.Pipeline, nodes: Sequence[membership_pb2.Node] | None = None) -> None:
        self.topology = membership_pb2.Topology(
            version=self.topology.version + 1, nodes=nodes or [node(self.port)], pipelines=pipelines
        )
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def request(self) -> generation_pb2.GenerateRequest:
        """The only request so far."""
        assert len(self.requests) == 1
        return self.requests[0]

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: aio.ServicerContext
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        self.requests.append(request)
        sequence = 0
        try:
            async for events in self.script(request):
                for event in events:
                    event.sequence = sequence
                    sequence += 1
                yield generation_pb2.GenerateResponse(events=events)
        except TandemError as error:
            await rpc.abort(context, error)
        finally:
            self.ended.append(request.generation_id)

    async def CountTokens(
        self, request: generation_pb2.CountTokensRequest, context: aio.ServicerContext
    ) -> generation_pb2.CountTokensResponse:
        if request.request.text == "refuse":
            await rpc.abort(context, InvalidRequestError("no", param="prompt"))
        return generation_pb2.CountTokensResponse(prompt_tokens=len(request.request.text.split()))

    async def WatchTopology(
        self, request: membership_pb2.WatchTopologyRequest, context: aio.ServicerContext
    ) -> AsyncIterator[membership_pb2.WatchTopologyResponse]:
        while True:
            changed = self._changed
            yield membership_pb2.WatchTopologyResponse(topology=self.topology)
            await changed.wait()

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, context: aio.ServicerContext
    ) -> model_pb2.ListModelsResponse:
        if self.entries is None:
            await rpc.abort(context, TandemError("no list"))
        return model_pb2.ListModelsResponse(models=self.entries)

    async def LoadModel(
        self, request: model_pb2.LoadModelRequest, context: aio.ServicerContext
    ) -> AsyncIterator[model_pb2.LoadModelResponse]:
        self.loads.append(request)
        try:
            if self.on_load is None:
                raise NotFoundError("nothing to load")
            async for message in self.on_load():
                yield message
        except TandemError as error:
            await rpc.abort(context, error)
