"""Masks, second draws and forced spans in the ring, with a little automaton in the grammar's place."""

from __future__ import annotations

import asyncio
import random

import pytest
from local_ring import VOCABULARY, local_ring

from node.engine import head
from node.engine.sampling import SamplingParams
from tandem.errors import TandemError

STAGES = pytest.mark.parametrize("stages", [1, 2, 3])
CHOICES = range(10, 20)
FORCED = tuple(range(20, 32))


class Automaton:
    """Free until a multiple of 8 comes; then one of ``CHOICES``, then all of ``FORCED``, then free again.

    With ``refuses`` a free token that is 3 modulo 16 may not stand: an even one comes in its place.
    """

    def __init__(self, *, refuses: bool = False, breaks_at: int = -1) -> None:
        self.refuses = refuses
        self.breaks_at = breaks_at
        self.taken = 0
        self.rest: tuple[int, ...] = ()
        self.state = "free"

    def mask(self) -> bytes | None:
        if self.state == "free":
            return None
        allowed = {"even": range(0, VOCABULARY, 2), "choice": CHOICES, "forced": self.rest[:1]}[self.state]
        bits = sum(1 << token for token in allowed)
        return bits.to_bytes(VOCABULARY // 8, "little")

    def accept(self, token: int) -> bool:
        if self.taken == self.breaks_at:
            raise ValueError("broken on purpose")
        if self.state == "free" and self.refuses and token % 16 == 3:
            self.state = "even"
            return False
        self.taken += 1
        if self.state == "choice":
            self.state, self.rest = "forced", FORCED
        elif self.state == "forced" and len(self.rest) > 1:
            self.rest = self.rest[1:]
        else:
            opens = self.state != "forced" and token % 8 == 0
            self.state, self.rest = "choice" if opens else "free", ()
        return True

    def forced(self) -> tuple[int, ...]:
        return self.rest

    def runs_ahead(self) -> bool:
        return self.state == "free" and not self.refuses


def check(tokens: list[int], *, refuses: bool) -> int:
    """How many spans the tokens hold; fails where they break the automaton's rule."""
    at = spans = 0
    while at < len(tokens):
        assert not (refuses and tokens[at] % 16 == 3)
        if tokens[at] % 8 == 0:
            behind = tokens[at + 1 : at + 2 + len(FORCED)]
            assert all(token in CHOICES for token in behind[:1])
            assert tuple(behind[1:]) == FORCED[: max(0, len(behind) - 1)]
            spans += 1
            at += len(behind)
        at += 1
    return spans


def sampling(seed: int) -> SamplingParams:
    return SamplingParams(temperature=1.0, top_p=0.9 if seed % 2 else 1.0, seed=seed, presence_penalty=0.5 * (seed % 3))


def prompt(seed: int) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(VOCABULARY) for _ in range(dice.choice([1, 5, 40]))]


@STAGES
@pytest.mark.parametrize("refuses", [False, True])
async def test_spans_change_no_token(stages: int, refuses: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def all_of(together: bool) -> tuple[list[list[int]], int]:
        async with local_ring(stages, prefill_chunk=16) as ring:

            async def one(seed: int) -> list[int]:
                automaton = Automaton(refuses=refuses)
                return await ring.generate(prompt(seed), 60, sampling(seed), constraint=automaton)

            found = await asyncio.gather(*map(one, range(6))) if together else [await one(seed) for seed in range(6)]
            await ring.until_empty()
            return found, (await ring.statistics())[0].decode_rows

    alone, rows = await all_of(together=False)
    assert sum(check(tokens, refuses=refuses) for tokens in alone) > 5
    assert (await all_of(together=True))[0] == alone
    monkeypatch.setattr(head, "_FORCED_ALONE", 1000)
    monkeypatch.setattr(head, "_FORCED_SHARED", 1000)
    one_by_one, more_rows = await all_of(together=False)
    assert one_by_one == alone
    assert more_rows > rows + 40


@STAGES
async def test_constrained_and_free_rows_share_a_lane(stages: int) -> None:
    async with local_ring(stages) as ring:
        free = [await ring.generate(prompt(seed), 40, sampling(seed)) for seed in range(3)]
        bound = [await ring.generate(prompt(seed), 40, sampling(seed), constraint=Automaton()) for seed in range(3)]
        jobs = [ring.generate(prompt(seed), 40, sampling(seed)) for seed in range(3)]
        jobs += [ring.generate(prompt(seed), 40, sampling(seed), constraint=Automaton()) for seed in range(3)]
        assert list(await asyncio.gather(*jobs)) == [*free, *bound]


@STAGES
async def test_the_limit_holds_inside_a_span_and_a_stop_token_ends_it(stages: int) -> None:
    async with local_ring(stages) as ring:
        whole = await ring.generate([8], 60, SamplingParams(temperature=1.0, seed=4), constraint=Automaton())
        begin = next(at for at, token in enumerate(whole) if token == FORCED[0])
        cut = await ring.generate([8], begin + 4, SamplingParams(temperature=1.0, seed=4), constraint=Automaton())
        assert cut == whole[: begin + 4]
        stops = frozenset([FORCED[5]])
        ended = await ring.generate(
            [8], 60, SamplingParams(temperature=1.0, seed=4), constraint=Automaton(), stop_ids=stops
        )
        assert ended == whole[: whole.index(FORCED[5]) + 1]
        await ring.until_empty()
        assert ring.scheduler.statistics().reserved_tokens == 0


@STAGES
async def test_a_constraint_that_breaks_fails_its_own_sequence_alone(stages: int) -> None:
    async with local_ring(stages) as ring:
        expected = await ring.generate([5, 6], 30)
        _, broken = ring.submit([1, 2], 30, SamplingParams(temperature=1.0), constraint=Automaton(breaks_at=9))
        other = await ring.generate([5, 6], 30)
        await broken.over.wait()
        assert isinstance(broken.error, TandemError)
        assert "broken on purpose" in str(broken.error)
        assert other == expected
