"""How long a forward pass may take, and what the worker tells of the one under way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from node.cluster.view import Progress
from node.engine.pace import Pace
from node.engine.worker import Worker
from tandem.clock import Clock


class Time:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def worker(time: Time) -> Iterator[Worker]:
    worker = Worker(clock=time)
    yield worker
    assert worker.stop()


def test_a_long_pass_may_take_long_and_a_short_one_may_not() -> None:
    pace = Pace()
    before = pace.allowed(2048)
    assert before > 100 * pace.allowed(1)
    for _ in range(100):
        pace.learn(512, 1.024)
        pace.learn(1, 0.5)
    assert pace.allowed(2048) == pytest.approx(10 * 2048 * 0.002, rel=0.01)
    assert pace.allowed(1) == pytest.approx(5, rel=0.01)


async def test_the_worker_tells_what_the_pass_under_way_may_take(worker: Worker, time: Time) -> None:
    assert worker.step_seconds == 0

    def slow_step() -> None:
        time.now += 64.0

    for _ in range(50):
        await worker.run(slow_step, step=512)
    begun, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait(10)

    waiting = [worker.submit(hang, step=512), worker.submit(hang, step=1)]
    assert await asyncio.to_thread(begun.wait, 10)
    try:
        assert worker.step_seconds == pytest.approx(640, rel=0.01)
        assert (worker.pending_steps, worker.completed_steps) == (2, 50)
    finally:
        go_on.set()
    await asyncio.gather(*waiting)
    assert (worker.pending_steps, worker.completed_steps) == (0, 52)
    assert worker.step_seconds < 4
    await worker.run(lambda: None)
    assert worker.step_seconds == 0
    assert worker.completed_steps == 52


async def test_a_pass_that_fails_teaches_nothing(worker: Worker, time: Time) -> None:
    def fail() -> None:
        time.now += 1000.0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await worker.run(fail, step=1)
    await worker.run(lambda: None, step=1)
    assert worker.step_seconds == Pace().allowed(1)


async def test_a_thread_that_hangs_is_stuck_within_five_seconds_and_a_long_prefill_is_not(
    worker: Worker, time: Time
) -> None:
    """What membership makes of the worker's figures: four looks a second, as the daemon takes them."""
    progress = Progress(Clock(monotonic=time), 4.0)

    def looks(seconds: float) -> list[str]:
        seen = []
        for _ in range(int(seconds * 4)):
            time.now += 0.25
            progress.note(worker.completed_steps, worker.pending_steps, worker.step_seconds)
            seen.append(progress.stuck())
        return seen

    async def while_under_way(length: int, seconds: float) -> list[str]:
        begun, go_on = threading.Event(), threading.Event()

        def step() -> None:
            begun.set()
            go_on.wait(10)

        waiting = worker.submit(step, step=length)
        assert await asyncio.to_thread(begun.wait, 10)
        seen = looks(seconds)
        go_on.set()
        await waiting
        return seen

    assert any(await while_under_way(1, 4.75))
    assert not any(looks(20))
    assert not any(await while_under_way(1, 3.75))
    assert not any(await while_under_way(512, 60))
    assert any(await while_under_way(512, 2000))
    assert not any(looks(1))
