"""A conversation in the terminal: its history, and answers printed as they come."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, TextIO

from grpc import aio

from tandem import rpc
from tandem.cli.connect import Connection
from tandem.errors import TandemError, UnavailableError
from tandem.v1 import generation_pb2 as pb

SILENCE_DEADLINE: Final = 300.0
"""Seconds between two events of an answer: a model that is on disk is loaded first."""


class Conversation:
    """The messages so far, and the model that answers them. ``request`` holds all but messages, ids, seed and time."""

    def __init__(self, head: Connection, request: pb.GenerateRequest, *, seed: int | None, system: str | None) -> None:
        self._head = head
        self._request = request
        self._seed = seed
        self._messages: list[pb.ChatMessage] = []
        if system:
            self._messages.append(_message(pb.ROLE_SYSTEM, system))

    async def say(self, text: str | None) -> list[pb.ToolCall]:
        """Adds a user's message (``None`` adds none), prints the answer as it streams, returns the calls it made.

        An answer that fails or is cancelled leaves the history as it was. Raises the error of ours that the model
        answered with.
        """
        before = len(self._messages)
        if text is not None:
            self._messages.append(_message(pb.ROLE_USER, text))
        try:
            answer = await self._answer()
        except BaseException:
            del self._messages[before:]
            raise
        self._messages.append(answer)
        return list(answer.tool_calls)

    def add_result(self, call: pb.ToolCall, result: str) -> None:
        """Adds what a called tool returned."""
        message = _message(pb.ROLE_TOOL, result)
        message.tool_call_id, message.name = call.tool_call_id, call.name
        self._messages.append(message)

    async def _answer(self) -> pb.ChatMessage:
        request = pb.GenerateRequest()
        request.CopyFrom(self._request)
        request.generation_id = f"chat-{secrets.token_hex(12)}"
        request.conversation.messages.extend(self._messages)
        request.created_at = int(time.time())
        request.sampling.seed = secrets.randbits(63) if self._seed is None else self._seed
        answer = pb.ChatMessage(role=pb.ROLE_ASSISTANT)
        content: list[str] = []
        printer = _Printer()
        try:
            async with aclosing(self._events(request)) as events:
                async for event in events:
                    printer.show(event)
                    match event.WhichOneof("event"):
                        case "content":
                            content.append(event.content)
                        case "reasoning":
                            answer.reasoning += event.reasoning
                        case "tool_call_end":
                            answer.tool_calls.append(event.tool_call_end.tool_call)
                        case "failed":
                            raise TandemError(event.failed.message, code=event.failed.code)
        finally:
            printer.end()
        if content:
            answer.content.append(pb.ContentPart(text="".join(content)))
        return answer

    async def _events(self, request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerationEvent, None]:
        call = self._head.generation.Generate(request)
        stream = aiter(call)
        try:
            while True:
                try:
                    response = await asyncio.wait_for(anext(stream), SILENCE_DEADLINE)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise UnavailableError(f"no answer in {SILENCE_DEADLINE:.0f} s") from None
                except aio.AioRpcError as error:
                    raise rpc.from_rpc_error(error) from None
                for event in response.events:
                    yield event
        finally:
            call.cancel()


class _Printer:
    """Writes events: the answer and its calls on stdout, reasoning on stderr, each kind on lines of its own."""

    def __init__(self) -> None:
        self._kind: str | None = None

    def show(self, event: pb.GenerationEvent) -> None:
        match event.WhichOneof("event"):
            case "content":
                self._write("content", event.content)
            case "reasoning":
                self._write("reasoning", event.reasoning)
            case "tool_call_start":
                self.end()
                self._write("call", f"→ {event.tool_call_start.name} ")
            case "tool_call_arguments":
                self._write("call", event.tool_call_arguments.arguments_delta)
            case "tool_call_end":
                self.end()
                if event.tool_call_end.warning:
                    print(f"tandem: {event.tool_call_end.warning}", file=sys.stderr)
            case "finished" if event.finished.reason == pb.FINISH_REASON_LENGTH:
                self.end()
                print("tandem: the limit of tokens ended the answer", file=sys.stderr)

    def end(self) -> None:
        """Ends the line that is being written, if any."""
        if self._kind is not None:
            print(file=_stream(self._kind), flush=True)
            self._kind = None

    def _write(self, kind: str, text: str) -> None:
        if kind != self._kind:
            self.end()
            self._kind = kind
        print(text, end="", flush=True, file=_stream(kind))


def _stream(kind: str) -> TextIO:
    return sys.stderr if kind == "reasoning" else sys.stdout


def _message(role: pb.Role.ValueType, text: str) -> pb.ChatMessage:
    return pb.ChatMessage(role=role, content=[pb.ContentPart(text=text)])
