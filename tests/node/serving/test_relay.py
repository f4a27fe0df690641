"""A stage behind the head, between two links in memory; what it computes is a stand-in that tests can hold back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from link_peers import HELLO, MemoryTransport, Receiver, soon

from node.engine import frames
from node.engine.shard import Shard
from node.engine.worker import Worker
from node.links.base import Pipe
from node.links.link import WINDOW_BYTES, IncomingLink, OutgoingLink
from node.serving.relay import Relay
from tandem.errors import LinkError, StageLostError


class Stage:
    """Counts what it applies; holds each entry until the test lets it go on."""

    def __init__(self) -> None:
        self.applied: list[frames.Entry] = []
        self.cleared = 0
        self.gate = threading.Event()
        self.gate.set()

    def apply(self, entry: frames.Entry) -> frames.Entry:
        assert self.gate.wait(30)
        self.applied.append(entry)
        return entry

    def clear(self) -> None:
        self.cleared += 1


class Rig:
    """The links on both sides of a relay."""

    def __init__(self, stage: Stage, receiver: Receiver) -> None:
        self.stage = stage
        self.receiver = receiver
        self.link: OutgoingLink
        self.behind = MemoryTransport()
        self.error: BaseException | None = None
        self.over = asyncio.Event()


@asynccontextmanager
async def relayed(*, held: bool = False) -> AsyncIterator[Rig]:
    """A relay that serves a link from the test to a receiver."""
    rig = Rig(Stage(), Receiver(held=held))
    worker = Worker("stage")
    front = MemoryTransport()
    relay = Relay(worker, cast(Shard, rig.stage), HELLO, rig.behind.dial, "stage 2 on c")

    async def accept(pipe: Pipe) -> None:
        incoming, _ = await IncomingLink.accept(pipe, lambda hello: True)
        try:
            await relay.serve(incoming, 9)
        except BaseException as error:
            rig.error = error
            raise
        finally:
            rig.over.set()

    await rig.behind.listen(rig.receiver)
    await front.listen(accept)
    try:
        rig.link = await OutgoingLink.open(await front.dial(), HELLO)
        await soon(rig.receiver.ready.wait())
        yield rig
    finally:
        rig.stage.gate.set()
        await rig.link.close()
        await front.close()
        await rig.behind.close()
        await asyncio.to_thread(worker.stop)


def step(number: int, size: int = 10) -> frames.Step:
    tensor = frames.Tensor(frames.ElementType.BOOL, (size,), bytes(size))
    return frames.Step(number, 0, 1, (frames.Span(1, number, 1, 1),), (tensor,))


async def until(stage: Stage, count: int) -> None:
    """Waits until so many entries were applied."""
    async with asyncio.timeout(30):
        while len(stage.applied) < count:
            await asyncio.sleep(0.001)


async def test_entries_leave_in_the_order_of_the_log() -> None:
    entries: list[frames.Entry] = [frames.OpenSequence(1, "", 10)]
    for number in range(100):
        entries += (step(number, 1 + 5000 * (number % 7)), frames.TruncateSequence(1, number))
    entries.append(frames.CloseSequence(1))
    async with relayed() as rig:
        assert rig.receiver.hello is not None
        assert rig.receiver.hello.epoch == 9
        for entry in entries:
            await rig.link.send(entry)
        arrived = await rig.receiver.take(len(entries))
    assert arrived == entries
    assert rig.stage.applied == entries


async def test_the_next_entry_is_computed_while_the_last_one_travels() -> None:
    """The stage behind takes nothing: one entry waits for credit, the next is computed, and no more is taken in."""
    async with relayed(held=True) as rig:
        sending = [asyncio.create_task(rig.link.send(step(number, WINDOW_BYTES + 1))) for number in range(4)]
        await until(rig.stage, 2)
        await asyncio.sleep(0.05)
        assert len(rig.stage.applied) == 2
        assert not sending[-1].done()
        assert rig.receiver.pipe is not None
        rig.receiver.pipe.let(1000)
        arrived = await rig.receiver.take(4)
        assert [entry.step_id for entry in arrived if isinstance(entry, frames.Step)] == [0, 1, 2, 3]
        await soon(asyncio.gather(*sending))


async def test_a_link_that_ends_frees_the_stage_after_what_is_under_way() -> None:
    async with relayed() as rig:
        await rig.link.send(step(1))
        await rig.receiver.take(1)
        await rig.link.close()
        await soon(rig.over.wait())
        await soon(rig.receiver.over.wait())
        assert rig.stage.cleared == 1


@pytest.mark.parametrize("busy", [False, True], ids=["while idle", "while computing"])
async def test_a_next_stage_that_goes_away_is_named(busy: bool) -> None:
    async with relayed() as rig:
        if busy:
            rig.stage.gate.clear()
            await rig.link.send(step(1))
        await asyncio.sleep(0.02)
        await rig.behind.close()
        rig.stage.gate.set()
        await soon(rig.over.wait())
        assert isinstance(rig.error, StageLostError)
        assert "stage 2 on c is lost" in rig.error.message
        assert rig.stage.cleared == 1
        assert isinstance(await soon(asyncio.shield(rig.link.broken)), StageLostError)


async def test_garbage_from_the_stage_before_breaks_the_relay_and_the_stage_behind() -> None:
    async with relayed() as rig:
        await rig.link._pipe.send(b"\xff\xff\xff")
        await soon(rig.over.wait())
        assert isinstance(rig.error, LinkError)
        assert rig.stage.cleared == 1
        await soon(rig.receiver.over.wait())
