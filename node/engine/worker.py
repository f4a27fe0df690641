"""The one thread in which everything of MLX happens: load, evaluate, run, free.

Arrays are bound to the stream of the thread that made them, so a graph built in one thread cannot be evaluated in
another. The event loop hands closures over and gets plain values back.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx

from node.engine.pace import Pace
from tandem.errors import OverloadedError

T = TypeVar("T")
_Job = tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any], int]


class Worker:
    """Runs closures one after the other in a thread of its own.

    ``run`` may be called from one event loop only. A cancelled waiter does not stop a closure that has begun: its
    result is dropped; a closure that has not begun is skipped.
    """

    def __init__(
        self, name: str = "mlx", *, max_pending: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._max_pending = max_pending
        self._pending = 0
        self._pending_steps = 0
        self._completed_steps = 0
        self._step_seconds = 0.0
        self._pace = Pace()
        self._clock = clock
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    @property
    def pending_steps(self) -> int:
        """Forward passes accepted and not finished."""
        return self._pending_steps

    @property
    def completed_steps(self) -> int:
        """Forward passes finished since the start."""
        return self._completed_steps

    @property
    def step_seconds(self) -> float:
        """Seconds that the forward pass under way may take, by its length and by how long such passes took."""
        return self._step_seconds

    async def run(self, job: Callable[[], T], *, step: int = 0) -> T:
        """The result of ``job()``, run in the worker's thread after everything given before. Raises as ``submit``."""
        return await self.submit(job, step=step)

    def submit(self, job: Callable[[], T], *, step: int = 0) -> asyncio.Future[T]:
        """Queues ``job`` at once; the future is its result. Cancelling the future skips a job that has not begun.
        ``step`` is for a forward pass, by whose progress others tell whether this node is stuck: its length in
        positions of a row.

        Raises:
            OverloadedError: too many closures wait.
        """
        if self._pending >= self._max_pending:
            raise OverloadedError(f"{self._pending} jobs wait for the MLX thread")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._pending += 1
        self._pending_steps += bool(step)
        self._queue.put((job, loop, future, step))
        return future

    def stop(self, timeout: float = 5.0) -> bool:
        """Ends the thread after the closures given so far; False when it did not end within ``timeout`` seconds."""
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        while (item := self._queue.get()) is not None:
            job, loop, future, step = item
            result: Any = None
            error: BaseException | None = None
            if not future.cancelled():
                begin = self._clock()
                self._step_seconds = self._pace.allowed(step) if step else 0.0
                try:
                    result = job()
                    if step:
                        self._pace.learn(step, self._clock() - begin)
                except BaseException as raised:  # noqa: BLE001 - handed to the waiter, whatever it is
                    error = raised
            del job, item
            try:
                loop.call_soon_threadsafe(self._done, future, result, error, step)
            except RuntimeError:  # the loop was closed while we worked: nobody waits any more
                break
            del result, error, future
        mx.clear_streams()

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None, step: int) -> None:
        self._pending -= 1
        self._pending_steps -= bool(step)
        self._completed_steps += bool(step)
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
