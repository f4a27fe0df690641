"""Models that lie on disk: listing them, and loading one when it is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from grpc import aio

from tandem import rpc
from tandem.errors import OverloadedError, TandemError, UnavailableError
from tandem.v1 import membership_pb2, model_pb2, model_pb2_grpc

logger = logging.getLogger(__name__)

_LIST_AGE: Final = 2.0
"""Seconds for which a list of models is taken as current."""


class ModelLoader:
    """Asks the node behind ``node_channel`` (None when no node answers) about models.

    Requests for one model share one load, which goes on when they are cancelled: the next one finds it further on.
    """

    def __init__(self, node_channel: Callable[[], aio.Channel | None], load_idle_seconds: float) -> None:
        self._node_channel = node_channel
        self._load_idle_seconds = load_idle_seconds
        self._loads: dict[str, asyncio.Task[membership_pb2.Pipeline]] = {}
        self._list_lock = asyncio.Lock()
        self._entries: list[model_pb2.ModelEntry] = []
        self._listed_at = float("-inf")

    async def entries(self) -> list[model_pb2.ModelEntry]:
        """What is loaded or lies on disk, at most two seconds old. Raises ``TandemError`` when no node says."""
        async with self._list_lock:
            now = asyncio.get_running_loop().time()
            if now - self._listed_at > _LIST_AGE:
                try:
                    response = await self._stub().ListModels(model_pb2.ListModelsRequest(), timeout=rpc.UNARY_DEADLINE)
                except aio.AioRpcError as error:
                    raise rpc.from_rpc_error(error) from error
                self._entries, self._listed_at = list(response.models), now
            return self._entries

    async def on_disk(self, name: str) -> model_pb2.ModelEntry | None:
        """The entry of a model that could be loaded under a name."""
        for entry in await self.entries():
            if name in names_of(entry) and entry.on_disk_node_ids:
                return entry
        return None

    async def wait(self, name: str) -> membership_pb2.Pipeline | None:
        """The outcome of the load of a name that runs; None when none does."""
        task = self._loads.get(name)
        return None if task is None else await asyncio.shield(task)

    async def load(self, name: str, entry: model_pb2.ModelEntry) -> membership_pb2.Pipeline:
        """Loads a model, or waits for the load that runs. It never makes room by unloading another.

        Raises ``UnavailableError`` with the code ``insufficient_memory`` when it does not fit.
        """
        task = self._loads.get(name)
        if task is None:
            task = asyncio.create_task(self._load(entry), name=f"load {name}")
            for served in (name, *names_of(entry)):
                self._loads[served] = task
            task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancels the loads that run."""
        tasks = set(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, task: asyncio.Task[membership_pb2.Pipeline]) -> None:
        self._loads = {name: running for name, running in self._loads.items() if running is not task}
        self._listed_at = float("-inf")
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("%s failed: %s", task.get_name(), error)

    async def _load(self, entry: model_pb2.ModelEntry) -> membership_pb2.Pipeline:
        logger.info("loading %s", entry.model.model_id)
        call = self._stub().LoadModel(model_pb2.LoadModelRequest(model=entry.model))
        try:
            while True:
                async with asyncio.timeout(self._load_idle_seconds):
                    message = await call.read()
                if not isinstance(message, model_pb2.LoadModelResponse):
                    raise UnavailableError(f"loading {entry.model.model_id} ended early", code="model_loading")
                if message.HasField("ready"):
                    return message.ready
        except TimeoutError:
            raise UnavailableError(f"loading {entry.model.model_id} makes no progress", code="model_loading") from None
        except aio.AioRpcError as error:
            raise _load_error(entry, rpc.from_rpc_error(error)) from error
        finally:
            call.cancel()

    def _stub(self) -> model_pb2_grpc.ModelServiceAsyncStub:
        channel = self._node_channel()
        if channel is None:
            raise UnavailableError("no node of the cluster answers", retry_after=2)
        return model_pb2_grpc.ModelServiceStub(channel)


def names_of(entry: model_pb2.ModelEntry) -> list[str]:
    """The names under which a model is or would be served."""
    return list(entry.served_names) or [entry.model.model_id]


def _load_error(entry: model_pb2.ModelEntry, error: TandemError) -> TandemError:
    """Memory and disks that are short stay short, so that no retry is invited."""
    if isinstance(error, OverloadedError):
        code = "insufficient_storage" if error.code == "insufficient_storage" else "insufficient_memory"
        return UnavailableError(f"{entry.model.model_id} does not fit: {error.message}", code=code, retry_after=0)
    return error
