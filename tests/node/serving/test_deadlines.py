"""How long a step may take."""

from __future__ import annotations

import asyncio

import pytest

from node.engine.frames import Step
from node.serving.deadlines import StepDeadlines
from tandem.errors import StageLostError

STEP = Step(1, 0, 1, ())


async def test_a_step_that_does_not_come_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepDeadlines, "_FLOOR", 0.0)
    deadlines = StepDeadlines()
    for _ in range(100):
        deadlines.learn(1, 0.0)
    arrival: asyncio.Future[Step] = asyncio.get_running_loop().create_future()
    with pytest.raises(StageLostError, match="no stage answered"):
        await deadlines.decode().wait(arrival)
    assert arrival.done()  # what arrives after all is nobody's


async def test_a_step_that_comes_in_time_is_given() -> None:
    loop = asyncio.get_running_loop()
    arrival: asyncio.Future[Step] = loop.create_future()
    loop.call_later(0.001, arrival.set_result, STEP)
    assert await StepDeadlines().decode().wait(arrival) is STEP


async def test_who_is_cancelled_while_waiting_is_cancelled() -> None:
    arrival: asyncio.Future[Step] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(StepDeadlines().decode().wait(arrival))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert arrival.cancelled()


async def test_steps_behind_prefill_get_its_time_until_it_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    deadlines = StepDeadlines(lambda: now)
    loop = asyncio.get_running_loop()
    seconds: list[float] = []
    call_later = loop.call_later

    def noted(delay: float, *rest: object) -> asyncio.TimerHandle:
        seconds.append(delay)
        return call_later(delay, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", noted)
    arrived: asyncio.Future[Step] = loop.create_future()
    arrived.set_result(STEP)
    prefill = deadlines.prefill(2000)
    behind = deadlines.decode()
    await prefill.wait(arrived)
    await behind.wait(arrived)
    await deadlines.decode().wait(arrived)
    assert seconds == [400.0, 405.0, 5.0]
