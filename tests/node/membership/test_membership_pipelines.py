"""One picture of the pipelines out of many reports."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from node.cluster.pipelines import Report, merge
from tandem.v1.membership_pb2 import (
    PIPELINE_STATE_DEGRADED,
    PIPELINE_STATE_LOADING,
    PIPELINE_STATE_READY,
    Pipeline,
    Stage,
)
from tandem.v1.types_pb2 import Segment


def pipeline(
    nodes: str, epoch: int = 1, state: int = PIPELINE_STATE_READY, reason: str = "", name: str = "p"
) -> Pipeline:
    stages = [
        Stage(node_ids=[each], segments=[Segment(first_layer=2 * index, end_layer=2 * index + 2)])
        for index, each in enumerate(nodes)
    ]
    if stages:
        stages[0].segments.add(first_layer=9, end_layer=9, epilogue=True)
    return Pipeline(pipeline_id=name, epoch=epoch, stages=stages, state=state, reason=reason)  # type: ignore[arg-type]


def report(node: str, *pipelines: Pipeline, lost: bool = False) -> Report:
    return Report(node, lost, pipelines)


def test_the_highest_epoch_wins_then_the_smaller_head() -> None:
    reports = [report("b", pipeline("ba", 4)), report("a", pipeline("ab", 3)), report("c", pipeline("cb", 4))]
    for order in itertools.permutations(reports):
        assert merge(order, {}) == [pipeline("ba", 4)]


def test_of_one_epoch_the_head_knows_best() -> None:
    loading = pipeline("ba", state=PIPELINE_STATE_LOADING)
    assert merge([report("a", loading), report("b", pipeline("ba"))], {}) == [pipeline("ba")]


def test_a_missing_stage_or_head_degrades_and_is_named() -> None:
    [seen] = merge([report("a", pipeline("ab"))], {"b": "node mac-b is lost"})
    assert seen.state == PIPELINE_STATE_DEGRADED
    assert seen.reason == "missing: stage 1 (layers 2 to 3): node mac-b is lost"
    [seen] = merge([report("b", pipeline("ab"))], {"a": "node mac-a left the cluster"})
    assert seen.reason == "missing: stage 0 (layers 0 to 1, output head): node mac-a left the cluster"
    assert merge([report("a", pipeline("ab"))], {"c": "gone"}) == [pipeline("ab")]


def test_a_pipeline_that_loads_goes_on_loading_for_the_eye() -> None:
    [seen] = merge([report("a", pipeline("ab", state=PIPELINE_STATE_LOADING))], {"b": "lost"})
    assert seen.state == PIPELINE_STATE_LOADING
    assert "lost" in seen.reason


def test_the_word_of_the_lost_counts_only_where_nobody_else_could_speak() -> None:
    missing = {"b": "lost"}
    assert merge([report("a"), report("b", pipeline("ab"), lost=True)], missing) == []
    [seen] = merge([report("a"), report("b", pipeline("b"), lost=True)], missing)
    assert seen.state == PIPELINE_STATE_DEGRADED


PIPELINES = st.builds(
    pipeline,
    st.text("abc", min_size=0, max_size=3),
    st.integers(0, 3),
    st.sampled_from([PIPELINE_STATE_LOADING, PIPELINE_STATE_READY]),
    name=st.sampled_from("pq"),
)
REPORTS = st.lists(
    st.builds(
        lambda node, lost, said: Report(node, lost, tuple({each.pipeline_id: each for each in said}.values())),
        st.sampled_from("abcd"),
        st.booleans(),
        st.lists(PIPELINES, max_size=3),
    ),
    max_size=4,
    unique_by=lambda each: each.node_id,
)


@given(REPORTS, st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(reports: list[Report], random: object) -> None:
    missing = {each.node_id: "lost" for each in reports if each.lost}
    merged = merge(reports, missing)
    shuffled = list(reports)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merge(shuffled, missing) == merged
    assert [each.pipeline_id for each in merged] == sorted({each.pipeline_id for each in merged})
    told = {each.pipeline_id: each.epoch for one in reports if not one.lost for each in one.pipelines}
    assert told.keys() <= {each.pipeline_id for each in merged}
