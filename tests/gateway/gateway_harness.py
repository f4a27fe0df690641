import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import openai
import pytest
from scripted_cluster import ScriptedNode, pipeline

from gateway.limits import Limits
from gateway.server import serve
from tandem.settings import GatewaySettings

NAMES = ("demo", "org/model-4bit")


class Gateway:
    """A running gateway and an HTTP client for it."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base
        self.session = session

    async def post(self, path: str, body: Any, **kwargs: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.session.post(self.base + path, data=data, **kwargs) as response:
            return response.status, json.loads(await response.read()), response

    async def get(self, path: str, **kwargs: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        async with self.session.get(self.base + path, **kwargs) as response:
            return response.status, json.loads(await response.read()), response

    async def status(self, path: str) -> int:
        return (await self.get(path))[0]

    async def chat(self, **fields: Any) -> Any:
        """A plain answer that must be a good one."""
        status, answer, _ = await self.post("/v1/chat/completions", chat_body(**fields))
        assert status == 200, answer
        return answer

    async def chat_error(self, status: int, **fields: Any) -> Any:
        """The error object of an answer that must have the given status."""
        got, answer, _ = await self.post("/v1/chat/completions", chat_body(**fields))
        assert got == status, answer
        assert set(answer) == {"error"}
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        return answer["error"]

    async def events(self, path: str, body: Any) -> list[Any]:
        """The events of a stream that starts well, parsed, but for the last ``[DONE]``."""
        data = json.dumps({**body, "stream": True}).encode()
        async with self.session.post(self.base + path, data=data) as response:
            assert response.status == 200, await response.read()
            assert response.content_type == "text/event-stream"
            text = (await response.read()).decode()
        assert text.endswith("\n\n")
        lines = text.split("\n\n")[:-1]
        assert all(line.startswith("data: ") and "\n" not in line for line in lines)
        return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]

    async def chat_chunks(self, **fields: Any) -> list[Any]:
        """The chunks of a chat stream that must end with ``[DONE]``."""
        events = await self.events("/v1/chat/completions", chat_body(**fields))
        assert events.pop() == "[DONE]"
        return events

    def sdk(self, **kwargs: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.base + "/v1", api_key="none", max_retries=0, timeout=20, **kwargs)


def chat_body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], **fields}


Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def head() -> AsyncIterator[ScriptedNode]:
    """A node that serves ``demo`` and ``org/model-4bit``."""
    scripted = ScriptedNode()
    await scripted.start()
    scripted.show(pipeline(*NAMES))
    yield scripted
    await scripted.stop()


@pytest.fixture
async def start(head: ScriptedNode) -> AsyncIterator[Start]:
    """Starts a gateway in front of ``head``, or of the given nodes, with other settings or limits."""
    tasks: list[asyncio.Task[None]] = []
    sessions: list[aiohttp.ClientSession] = []

    async def begin(limits: Limits | None = None, **settings: Any) -> Gateway:
        settings = {"nodes": (head.address,), "mdns": False, "listen": "127.0.0.1:0", **settings}
        browse = settings.pop("browse", None)
        ready = asyncio.get_running_loop().create_future()
        extra = {"browse": browse} if browse is not None else {}
        task = asyncio.create_task(
            serve(GatewaySettings(**settings), limits or Limits(), ready=ready.set_result, **extra)
        )
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        tasks.append(task)
        session = aiohttp.ClientSession()
        sessions.append(session)
        return Gateway(ready.result(), session)

    yield begin
    for session in sessions:
        await session.close()
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def gateway(start: Start) -> Gateway:
    return await start()
