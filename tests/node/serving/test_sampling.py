from __future__ import annotations

import math

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine.sampling import Draw, RowSampler, SamplingParams

VOCABULARY = 50


def logits(rows: int, seed: int = 0) -> mx.array:
    return mx.random.normal((rows, VOCABULARY), key=mx.random.key(seed)) * 3


def draw(row: mx.array, params: SamplingParams, position: int = 7, sampler: RowSampler | None = None) -> int:
    return Draw(row[None], [sampler or RowSampler(params)], [position]).read()[0][0]


PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 1000]),
    min_p=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 3),
    choice=st.integers(0, 2),
)


@settings(max_examples=50)
@given(params=st.lists(PARAMS, min_size=1, max_size=6), seed=st.integers(0, 100))
def test_a_row_draws_alike_in_any_company(params: list[SamplingParams], seed: int) -> None:
    rows = logits(len(params), seed)
    positions = list(range(3, 3 + len(params)))
    together = Draw(rows, [RowSampler(each) for each in params], positions).read()
    alone = [draw(rows[i], each, positions[i]) for i, each in enumerate(params)]
    assert [token for token, _ in together] == alone


@settings(max_examples=50)
@given(params=PARAMS, seed=st.integers(0, 100))
def test_only_what_the_filters_leave_is_drawn(params: SamplingParams, seed: int) -> None:
    row = logits(1, seed)[0]
    token = draw(row, params)
    order = mx.argsort(-row).tolist()
    rank = order.index(token)
    assert params.temperature > 0 or rank == 0
    if params.top_k > 0:
        assert rank < params.top_k
    if params.temperature > 0:
        weights = mx.softmax(row / params.temperature)
        above = sum(float(weights[better]) for better in order[:rank])
        assert above < params.top_p + 1e-5
        assert float(weights[token]) >= params.min_p * float(weights[order[0]]) - 1e-6


def test_draws_follow_the_distribution() -> None:
    row = mx.log(mx.array([0.5, 0.3, 0.2]))
    count = 3000
    rows = mx.broadcast_to(row, (count, 3))
    samplers = [RowSampler(SamplingParams(temperature=1.0, seed=11)) for _ in range(count)]
    tokens = [token for token, _ in Draw(rows, samplers, list(range(count))).read()]
    shares = [tokens.count(token) / count for token in range(3)]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.04)


def test_penalties_and_bias_change_the_winner() -> None:
    row = mx.array([1.0, 0.9, 0.2])
    assert draw(row, SamplingParams()) == 0
    for params in (SamplingParams(frequency_penalty=0.3), SamplingParams(presence_penalty=0.3)):
        sampler = RowSampler.for_prompt(params, [0], emitted=[0])
        assert draw(row, params, sampler=sampler) == 1
        assert draw(row, params, sampler=RowSampler.for_prompt(params, [0])) == 0
    repeats = SamplingParams(repetition_penalty=2.0)
    assert draw(row, repeats, sampler=RowSampler.for_prompt(repeats, [0])) == 1
    assert draw(row, SamplingParams(logit_bias=((2, 5.0),))) == 2
    assert draw(row, SamplingParams(logit_bias=((0, -100.0),), temperature=1.0)) in (1, 2)


def test_frequency_counts_and_presence_does_not() -> None:
    row = mx.array([1.0, 0.0])
    twice = SamplingParams(frequency_penalty=0.6)
    assert draw(row, twice, sampler=RowSampler.for_prompt(twice, [], emitted=[0])) == 0
    assert draw(row, twice, sampler=RowSampler.for_prompt(twice, [], emitted=[0, 0])) == 1
    once = SamplingParams(presence_penalty=0.6)
    assert draw(row, once, sampler=RowSampler.for_prompt(once, [], emitted=[0, 0, 0])) == 0


def test_log_probabilities_are_reported_for_those_who_asked() -> None:
    rows = logits(3)
    samplers = [
        RowSampler(SamplingParams(logprobs=True, top_logprobs=4)),
        RowSampler(SamplingParams()),
        RowSampler(SamplingParams(logprobs=True)),
    ]
    (first, report), (_, nothing), (_, bare) = Draw(rows, samplers, [1, 1, 1]).read()
    assert nothing is None
    assert report is not None and bare is not None
    expected = rows[0] - mx.logsumexp(rows[0])
    assert report.logprob == pytest.approx(float(expected[first]), abs=1e-5)
    assert [token for token, _ in report.top] == mx.argsort(-rows[0]).tolist()[:4]
    assert bare.top == ()


def test_half_precision_logits_are_drawn_in_single() -> None:
    row = mx.zeros((VOCABULARY,), mx.float16)
    tokens = {draw(row, SamplingParams(temperature=1.0, seed=seed)) for seed in range(64)}
    assert len(tokens) > 20


class Only:
    """A constraint that never changes."""

    def __init__(self, *tokens: int) -> None:
        self._mask = sum(1 << token for token in tokens).to_bytes(5, "little")

    def mask(self) -> bytes:
        return self._mask

    def accept(self, token: int) -> bool:
        return True

    def forced(self) -> tuple[int, ...]:
        return ()

    def runs_ahead(self) -> bool:
        return False


@settings(max_examples=30)
@given(params=PARAMS, seed=st.integers(0, 100), allowed=st.sets(st.integers(0, 39), min_size=1, max_size=4))
def test_what_the_mask_excludes_is_never_drawn(params: SamplingParams, seed: int, allowed: set[int]) -> None:
    """Five bytes are 40 tokens: those of the vocabulary that lie beyond may not come."""
    row = logits(1, seed)[0]
    sampler = RowSampler(params, constraint=Only(*allowed))
    assert draw(row, params, sampler=sampler) in allowed


def test_log_probabilities_are_those_of_the_masked_distribution() -> None:
    row = mx.log(mx.array([0.5, 0.3, 0.2]))
    params = SamplingParams(logprobs=True, top_logprobs=3, logit_bias=((0, 100.0),))
    token, logprobs = Draw(row[None], [RowSampler(params, constraint=Only(1, 2))], [0]).read()[0]
    assert token == 1
    assert logprobs is not None
    assert math.exp(logprobs.logprob) == pytest.approx(0.6)
    assert [round(math.exp(value), 3) for _, value in logprobs.top] == [0.6, 0.4, 0.0]
    assert logprobs.top[-1] == (0, -9999.0)
