"""Calls to the head: one generation, and all generations behind one HTTP request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from grpc import aio

from gateway.cluster.view import Route
from gateway.errors import HEAD_LOST, from_call, from_failed
from gateway.limits import Limits
from tandem.errors import TandemError, UnavailableError, first_of
from tandem.v1 import generation_pb2, generation_pb2_grpc

Events = Sequence[generation_pb2.GenerationEvent]
Feed = Callable[[int, Events], str]
"""Takes events of a generation by its number and gives the text to write, which may be empty."""
Write = Callable[[str], Awaitable[None]]


class Cluster(Protocol):
    """Where the head of a model is found."""

    async def route(self, model: str) -> Route:
        """The head that serves a model, loading it first if it lies on disk."""

    async def open(self, route: Route, request: generation_pb2.GenerateRequest) -> Generation | PromptCount:
        """Starts a generation; returns when the head has accepted it."""


class Generation:
    """One ``Generate`` call.

    The time between two messages is bounded by ``limits.idle``; the first must come within ``limits.accept``.
    ``close`` ends the call, which frees everything that it holds on all nodes; it may be called at any time.
    """

    def __init__(self, channel: aio.Channel, request: generation_pb2.GenerateRequest, limits: Limits) -> None:
        self._call = generation_pb2_grpc.GenerationServiceStub(channel).Generate(request)
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(limits.idle, self._check_idle)
        self._stuck = False
        self._first: Events = ()

    async def accepted(self) -> None:
        """Waits for the first message.

        Raises the error of a refusal, and ``aio.AioRpcError`` for a call that never reached the head.
        """
        try:
            async with asyncio.timeout(self._limits.accept):
                message = await self._call.read()
        except TimeoutError:
            raise UnavailableError("the head of the pipeline does not answer", code=HEAD_LOST) from None
        if not isinstance(message, generation_pb2.GenerateResponse):
            raise UnavailableError("the head of the pipeline ended the stream at once", code=HEAD_LOST)
        for event in message.events:
            if event.HasField("failed"):
                raise from_failed(event.failed)
        self._first = message.events

    @property
    def warnings(self) -> list[str]:
        """What the head said when it accepted: what of the request it will not hold."""
        return [warning for event in self._first for warning in event.accepted.warnings]

    async def run(self, number: int, feed: Feed, write: Write) -> None:
        """Feeds all events, message by message, and writes what that gives, once per message.

        Raises ``TandemError`` when the stream breaks, stands still, or ends without an end, and what ``feed`` and
        ``write`` raise.
        """
        events = self._first
        try:
            while True:
                text = feed(number, events)
                if text:
                    await write(text)
                message = await self._call.read()
                if not isinstance(message, generation_pb2.GenerateResponse):
                    break
                self._heard = self._loop.time()
                events = message.events
        except aio.AioRpcError as error:
            if not _has_end(events):
                raise from_call(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._stuck or (task is not None and task.cancelling()):
                raise
            raise UnavailableError(
                f"the head of the pipeline sent nothing for {self._limits.idle:g} s", code=HEAD_LOST
            ) from None
        if not _has_end(events):
            raise UnavailableError("the head of the pipeline ended the stream early", code=HEAD_LOST)

    def close(self) -> None:
        """Cancels the call unless it has ended."""
        self._timer.cancel()
        self._call.cancel()

    def _check_idle(self) -> None:
        """Re-arms itself for the time that is left, so that a message costs no timer of its own."""
        left = self._heard + self._limits.idle - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_idle)
        else:
            self._stuck = True
            self._call.cancel()


class PromptCount:
    """A generation of no tokens, with the methods of ``Generation``: the head counts the prompt's, and it is over."""

    def __init__(self, channel: aio.Channel, request: generation_pb2.GenerateRequest, limits: Limits) -> None:
        self._call = generation_pb2_grpc.GenerationServiceStub(channel).CountTokens(
            generation_pb2.CountTokensRequest(request=request), timeout=limits.accept
        )
        self._prompt_tokens = 0
        self.warnings: list[str] = []

    async def accepted(self) -> None:
        """Waits for the count. Raises ``aio.AioRpcError`` for a refusal and for a call that never reached the head."""
        self._prompt_tokens = (await self._call).prompt_tokens

    async def run(self, number: int, feed: Feed, write: Write) -> None:
        """Feeds the end, which the limit on tokens has brought, and writes what that gives."""
        end = generation_pb2.Finished(
            reason=generation_pb2.FINISH_REASON_LENGTH, prompt_tokens=self._prompt_tokens, completion_tokens=0
        )
        text = feed(number, [generation_pb2.GenerationEvent(finished=end)])
        if text:
            await write(text)

    def close(self) -> None:
        """Cancels the call unless it has ended."""
        self._call.cancel()


class Answer:
    """The generations behind one HTTP request: opened together, read side by side, closed together."""

    def __init__(self, cluster: Cluster, model: str, requests: Sequence[generation_pb2.GenerateRequest]) -> None:
        self._cluster = cluster
        self._model = model
        self._requests = requests
        self._generations: list[Generation | PromptCount] = []
        self.route: Route | None = None

    async def open(self) -> None:
        """Returns when the head has accepted all of them; raises the first refusal."""
        self.route = await self._cluster.route(self._model)
        if len(self._requests) == 1:
            self._generations.append(await self._cluster.open(self.route, self._requests[0]))
            return
        try:
            async with asyncio.TaskGroup() as group:
                tasks = []
                for request in self._requests:
                    tasks.append(group.create_task(self._open_one(self.route, request)))
                    await asyncio.sleep(0)  # sending a long prompt takes a while: others have their turn in between
        except* (TandemError, ConnectionError) as errors:
            raise first_of(errors) from None
        self._generations = [task.result() for task in tasks]

    async def run(self, feed: Feed, write: Write) -> None:
        """Runs all generations, numbered in order, until they have ended; raises the first error."""
        if len(self._generations) == 1:
            await self._generations[0].run(0, feed, write)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for number, generation in enumerate(self._generations):
                    group.create_task(generation.run(number, feed, write))
        except* (TandemError, ConnectionError) as errors:
            raise first_of(errors) from None

    @property
    def warnings(self) -> list[str]:
        """What of the request is not held, each thing once; known as soon as the head has accepted."""
        return list(dict.fromkeys(warning for generation in self._generations for warning in generation.warnings))

    def close(self) -> None:
        """Ends what still runs."""
        for generation in self._generations:
            generation.close()

    async def _open_one(self, route: Route, request: generation_pb2.GenerateRequest) -> Generation | PromptCount:
        generation = await self._cluster.open(route, request)
        self._generations.append(generation)
        return generation


def _has_end(events: Events) -> bool:
    return any(event.HasField("finished") for event in events)
