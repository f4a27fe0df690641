"""The ring where its links are lost."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from node.engine.frames import Span, Step
from node.serving.ring import Ring
from tandem.errors import StageLostError
from tandem.v1 import pipeline_pb2 as pb

STEP = Step(1, 0, 1, (Span(1, 0, 1, 1),))


async def test_what_nobody_waits_for_leaves_no_warning() -> None:
    """Completions of a ring that is lost, before a step is expected or after, when its lane is gone already."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    ring = Ring(2, pb.LinkHello())
    before = ring.expect(STEP)
    ring.fail(StageLostError("node c is lost"))
    after = ring.expect(STEP)
    assert str(before.exception()) == str(after.exception()) == "node c is lost"
    ring.expect(STEP)
    del before, after
    gc.collect()
    await asyncio.sleep(0)
    assert not complaints


async def test_who_waits_learns_why_the_ring_is_lost() -> None:
    ring = Ring(2, pb.LinkHello())
    arrival = ring.expect(STEP)
    ring.fail(StageLostError("node c is lost"))
    for future in (arrival, ring.expect(STEP)):
        with pytest.raises(StageLostError, match="node c is lost"):
            await future
    with pytest.raises(StageLostError, match="node c is lost"):
        await ring.send(STEP)
