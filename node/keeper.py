"""Keeps pipelines whole: a head sees to the stages behind it, and those to their head.

Nobody remembers a pipeline but the nodes that hold its stages, so a head that was started again learns of it from
them. A node that was away while its pipeline was unloaded finds that out in the same way, and lets its stage go.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from node.held import HeldShard
from node.placement import Placer
from node.shards import UNLOADED, Shards
from node.stages import Stages, node_of, request_for
from tandem.errors import OverloadedError, TandemError, UnavailableError

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks at stages that no head drives. A head must be without its shard at two of them, so that one that
is being unloaded or loaded by somebody is left alone."""


class Keeper:
    """Watches over the pipelines of which this node holds a stage."""

    def __init__(self, shards: Shards, stages: Stages, placer: Placer) -> None:
        self._shards = shards
        self._stages = stages
        self._placer = placer
        self._headless: set[str] = set()
        self._void: set[str] = set()
        self._busy: set[str] = set()

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                for held in self._shards.held():
                    if held.pipeline_id not in self._busy:
                        self._busy.add(held.pipeline_id)
                        tasks.create_task(self._look(held), name=f"keeper of {held.pipeline_id}")

    async def stages(self, head: HeldShard, epoch: int) -> None:
        """Sees to it that every stage behind a head holds its shard of the same plan; loads what is missing.

        Raises:
            UnavailableError: a stage is missing; names it, its node, and why.
            OverloadedError: its memory is short now.
        """
        pipeline = head.pipeline
        for index in range(1, len(pipeline.stages)):
            node_id = node_of(pipeline, index)
            try:
                if not await self._stages.holds(node_id, pipeline.pipeline_id, head.plan.digest):
                    await self._load(head, index, epoch)
            except OverloadedError:
                raise
            except TandemError as error:
                if error.code == UNLOADED:
                    self._void.add(pipeline.pipeline_id)
                raise UnavailableError(
                    f"stage {index} on {self._stages.name(node_id)} is missing: {error.message}", code="stage_missing"
                ) from error

    async def _look(self, held: HeldShard) -> None:
        try:
            if held.pipeline_id in self._void:
                await self._let_go(held)
            elif held.driven:
                self._headless.discard(held.pipeline_id)
            else:
                await self._look_for_head(held)
        except Exception:
            log.exception("looking after %s failed", held.pipeline_id)
        finally:
            self._busy.discard(held.pipeline_id)

    async def _look_for_head(self, held: HeldShard) -> None:
        pipeline, head_id = held.pipeline, node_of(held.pipeline, 0)
        head = self._stages.name(head_id)
        try:
            if await self._stages.holds(head_id, pipeline.pipeline_id, held.plan.digest):
                self._headless.discard(pipeline.pipeline_id)
            elif pipeline.pipeline_id not in self._headless:
                self._headless.add(pipeline.pipeline_id)
            else:
                self._shards.say(held, f"{head} lost its stage and is told to load it again")
                await self._load(held, 0, pipeline.epoch)
        except TandemError as error:
            if error.code == UNLOADED:
                await self._let_go(held)
            else:
                self._shards.say(held, f"stage 0 on {head} is missing: {error.message}")

    async def _load(self, held: HeldShard, index: int, epoch: int) -> None:
        planned = await self._placer.pinned(held.plan, held.headers)
        request = request_for(held.pipeline, planned, index)
        request.pipeline.epoch = epoch
        node_id = node_of(held.pipeline, index)
        log.info("%s loads stage %d of %s again", self._stages.name(node_id), index, held.pipeline_id)
        async for _ in self._stages.load(node_id, request):
            pass

    async def _let_go(self, held: HeldShard) -> None:
        log.info("%s was unloaded while this node was away", held.pipeline_id)
        self._void.discard(held.pipeline_id)
        try:
            await self._shards.unload(held.pipeline_id)
        except TandemError as error:
            log.debug("%s is gone already: %s", held.pipeline_id, error.message)
