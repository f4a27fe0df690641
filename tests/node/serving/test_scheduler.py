from __future__ import annotations

import asyncio
import random

import pytest
from local_ring import VOCABULARY, local_ring

from node.engine.sampling import SamplingParams
from tandem.errors import OverloadedError, StageLostError, UnavailableError

STAGES = pytest.mark.parametrize("stages", [1, 2, 3])


def prompts(count: int, seed: int = 1) -> list[list[int]]:
    dice = random.Random(seed)
    return [[dice.randrange(VOCABULARY) for _ in range(dice.choice([1, 2, 7, 30, 90]))] for _ in range(count)]


def sampling(index: int) -> SamplingParams:
    if index % 3 == 0:
        return SamplingParams()
    return SamplingParams(temperature=0.9, top_p=0.95, seed=index, frequency_penalty=0.4 if index % 3 == 1 else 0.0)


@STAGES
async def test_every_ring_gives_the_same_tokens(stages: int) -> None:
    async with local_ring(1) as one:
        expected = [await one.generate(prompt, 20, sampling(i)) for i, prompt in enumerate(prompts(6))]
    async with local_ring(stages, prefill_chunk=16) as ring:
        assert [await ring.generate(prompt, 20, sampling(i)) for i, prompt in enumerate(prompts(6))] == expected


@STAGES
async def test_what_else_is_in_the_batch_changes_nothing(stages: int) -> None:
    async with local_ring(stages, prefill_chunk=16) as ring:
        alone = [await ring.generate(prompt, 10 + i, sampling(i)) for i, prompt in enumerate(prompts(12))]
        before = (await ring.statistics())[-1]
        together = await asyncio.gather(
            *(ring.generate(prompt, 10 + i, sampling(i)) for i, prompt in enumerate(prompts(12)))
        )
        assert list(together) == alone
        await ring.until_empty()
        after = (await ring.statistics())[-1]
        rows, steps = after.decode_rows - before.decode_rows, after.decode_steps - before.decode_steps
        assert rows > 1.5 * steps


async def test_the_draw_depends_on_seed_and_choice() -> None:
    async with local_ring(2) as ring:
        one = await ring.generate([5, 6], 24, SamplingParams(temperature=1.0, seed=1))
        assert await ring.generate([5, 6], 24, SamplingParams(temperature=1.0, seed=1)) == one
        assert await ring.generate([5, 6], 24, SamplingParams(temperature=1.0, seed=2)) != one
        assert await ring.generate([5, 6], 24, SamplingParams(temperature=1.0, seed=1, choice=1)) != one


@STAGES
async def test_a_request_that_goes_away_is_freed_everywhere(stages: int) -> None:
    async with local_ring(stages, prefill_chunk=8) as ring:
        tickets = [ring.submit(prompt, 500) for prompt in prompts(8)]
        long, _ = ring.submit([1] * 400, 5)
        await asyncio.sleep(0.05)
        for ticket, _ in tickets:
            ring.scheduler.cancel(ticket)
        ring.scheduler.cancel(long)
        await ring.until_empty()
        assert ring.scheduler.statistics().reserved_tokens == 0
        assert len(await ring.generate([1, 2, 3], 5)) == 5


@STAGES
async def test_a_stop_string_ends_a_row_in_the_middle(stages: int) -> None:
    async with local_ring(stages) as ring:
        _, other = ring.submit([9, 9], 40)
        _, listener = ring.submit([1, 2], 40)
        listener.stop_after = 7
        await listener.over.wait()
        await other.over.wait()
        assert len(listener.tokens) == 7
        assert len(other.tokens) == 40
        await ring.until_empty()


async def test_end_of_turn_tokens_end_a_row() -> None:
    async with local_ring(1) as ring:
        tokens = await ring.generate([1, 2], 30)
        _, listener = ring.submit([1, 2], 30, stop_ids=frozenset({tokens[4]}))
        await listener.over.wait()
        assert listener.tokens == tokens[: tokens.index(tokens[4]) + 1]


async def test_a_full_queue_is_an_explicit_no() -> None:
    async with local_ring(1, max_running=1, max_waiting=2) as ring:
        tickets = [ring.submit([1, 2], 400) for _ in range(2)]
        with pytest.raises(OverloadedError):
            for _ in range(3):
                tickets.append(ring.submit([1, 2], 400))
        for ticket, _ in tickets:
            ring.scheduler.cancel(ticket)
        assert len(await ring.generate([1, 2], 3)) == 3


async def test_what_cannot_ever_fit_is_refused_and_what_fits_later_waits() -> None:
    async with local_ring(2, kv_tokens=100) as ring:
        with pytest.raises(OverloadedError) as refused:
            ring.submit([1] * 90, 20)
        assert refused.value.retry_after == 0
        first, _ = ring.submit([1] * 10, 70)
        _, second = ring.submit([1] * 10, 70)
        await asyncio.sleep(0.02)
        assert not second.tokens
        ring.scheduler.cancel(first)
        await second.over.wait()
        assert len(second.tokens) == 70


async def test_an_answer_may_outgrow_what_was_set_aside_while_there_is_room() -> None:
    async with local_ring(2, kv_tokens=60) as ring:
        _, first = ring.submit([1] * 10, 200, reserve=20)
        await first.over.wait()
        assert isinstance(first.error, OverloadedError)
        assert 40 <= len(first.tokens) <= 60
        await ring.until_empty()
        assert ring.scheduler.statistics().reserved_tokens == 0


async def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    async with local_ring(2, pace=0.01, prefill_chunk=8) as ring:
        long, long_listener = ring.submit([1] * 800, 2)
        short = await ring.generate([1, 2, 3], 2)
        assert len(short) == 2
        assert not long_listener.tokens
        ring.scheduler.cancel(long)


async def test_a_lost_ring_fails_what_is_in_flight_and_refuses_the_rest() -> None:
    async with local_ring(2) as ring:
        _, listener = ring.submit([1, 2], 5000)
        await asyncio.sleep(0.05)
        ring.ring.fail(StageLostError("stage 1 on node b is lost"))
        await listener.over.wait()
        assert isinstance(listener.error, StageLostError)
        with pytest.raises(UnavailableError):
            ring.submit([1, 2], 5)
