"""The planner against exhaustive search, and what it says to people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.cluster.costs import UNMEASURED_BANDWIDTH, UNMEASURED_LINK, LinkFacts, ModelCosts, NodeFacts, size_text
from node.cluster.planner import EARNS_ITS_PLACE, Placement, plan
from node.cluster.splitting import Splitter, headroom, needed_memory, stage_seconds
from tandem.errors import InvalidRequestError, NotFoundError, OverloadedError, UnavailableError, UnsupportedModelError

GB = 10**9
MB = 10**6


@dataclass(frozen=True)
class PerToken:
    nbytes_per_token: int

    def nbytes(self, tokens: int, /) -> int:
        return self.nbytes_per_token * tokens


def model(layers: int = 32, layer: int = GB // 2, head: int = GB, kv: int = 4_000, **others: Any) -> ModelCosts:
    return ModelCosts(
        model_id="some/model",
        model_type="llama",
        layer_bytes=others.pop("layer_bytes", [layer] * layers),
        head_bytes=head,
        caches=[[PerToken(kv)]] * layers,
        wire_bytes=others.pop("wire_bytes", [8192] * layers),
    )


def node(name: str, free: float, bandwidth: float = 400) -> NodeFacts:
    return NodeFacts(f"id-{name}", name, int(free * GB), int(bandwidth * GB))


def place(costs: ModelCosts, nodes: list[NodeFacts], **options: Any) -> Placement:
    settings = {"context_tokens": 8192, "links": {}, "admitted": True, **options}
    return plan(costs, nodes, **settings)


def layers(placement: Placement) -> list[tuple[str, int, int]]:
    return [(stage.node_id.removeprefix("id-"), stage.first, stage.end) for stage in placement.stages]


# -- what is chosen


def test_one_machine_that_holds_it_all_wins_over_two() -> None:
    placement = place(model(), [node("a", 64), node("b", 64)])
    assert layers(placement) == [("a", 0, 32)]
    assert "no plan over more" in placement.explanation[-1]


def test_the_fastest_machine_that_holds_it_is_taken() -> None:
    nodes = [node("slow", 64, 100), node("fast", 64, 800), node("small", 1.3, 3000)]
    assert layers(place(model(), nodes)) == [("fast", 0, 32)]


def test_a_slow_machine_that_holds_it_all_loses_to_two_fast_ones() -> None:
    nodes = [node("slow", 64, 100), node("a", 14, 800), node("b", 14, 800)]
    placement = place(model(), nodes)
    assert {name for name, _, _ in layers(placement)} == {"a", "b"}
    assert "slow alone" in placement.explanation[-1]


def test_links_that_are_too_slow_keep_it_on_one_machine() -> None:
    nodes = [node("slow", 64, 300), node("a", 14, 800), node("b", 14, 800)]
    bad = LinkFacts(0.050, 1e6)
    links = {(f"id-{x}", f"id-{y}"): bad for x, y in combinations(["slow", "a", "b"], 2)}
    assert layers(place(model(), nodes, links=links)) == [("slow", 0, 32)]


def test_links_decide_which_two_of_three() -> None:
    nodes = [node("a", 12), node("b", 12), node("c", 12)]
    links = {("id-a", "id-b"): LinkFacts(0.003, 1e8), ("id-c", "id-b"): LinkFacts(0.00005, 4e9)}
    assert {name for name, _, _ in layers(place(model(), nodes, links=links))} == {"b", "c"}


def test_a_model_too_large_for_one_goes_on_two_and_says_so() -> None:
    placement = place(model(), [node("a", 12), node("b", 12)])
    assert "no single node" in placement.explanation[-1]
    (_, first_start, first_end), (_, second_start, second_end) = layers(placement)
    assert (first_start, second_end) == (0, 32)
    assert first_end == second_start == 15  # 15 layers and the head's extra take as long as 17 layers
    assert placement.weight_bytes.keys() == placement.kv_bytes.keys() == {"id-a", "id-b"}
    assert all(placement.weight_bytes[node_id] + placement.kv_bytes[node_id] <= 12 * GB for node_id in ("id-a", "id-b"))


def test_the_ring_follows_the_quick_links() -> None:
    nodes = [node(name, 6) for name in "abcd"]
    quick, slow = LinkFacts(0.0001, 1e9), LinkFacts(0.01, 1e9)
    pairs = {frozenset(pair) for pair in ("ac", "cb", "bd", "da")}
    links = {(f"id-{x}", f"id-{y}"): quick if frozenset((x, y)) in pairs else slow for x, y in combinations("abcd", 2)}
    names = [name for name, _, _ in layers(place(model(), nodes, links=links))]
    assert all(frozenset((x, names[(i + 1) % 4])) in pairs for i, x in enumerate(names))


def test_the_order_of_the_nodes_changes_nothing() -> None:
    nodes = [node("a", 12, 300), node("b", 12, 400), node("c", 9, 500)]
    expected = place(model(), nodes)
    assert all(place(model(), list(order)) == expected for order in permutations(nodes))


# -- exactly those nodes


def test_spread_uses_every_node_even_where_one_would_do() -> None:
    small = model(6, MB, MB, 1000)
    placement = place(small, [node("a", 8), node("b", 8)], spread=True)
    assert len(placement.stages) == 2
    assert "alone it would take" in placement.explanation[-1]


def test_layers_are_shared_in_proportion_to_bandwidth() -> None:
    placement = place(model(30, head=0), [node("a", 64, 200), node("b", 64, 400)], pinned=["a", "b"])
    assert layers(placement) == [("a", 0, 10), ("b", 10, 30)]


def test_what_does_not_fit_on_a_fast_node_goes_to_the_others() -> None:
    nodes = [node("a", 64, 100), node("b", 3, 800), node("c", 64, 100)]
    placement = place(model(30, head=0), nodes, pinned=["a", "b", "c"])
    (_, _, a), (_, _, b), _ = layers(placement)
    assert b - a == 5  # what fits into 3 GB
    assert abs(a - (30 - b)) <= 1


def test_unmeasured_bandwidth_counts_as_equal() -> None:
    assert layers(place(model(30, head=0), [node("a", 64, 0), node("b", 64, 0)], pinned=["b", "a"])) == [
        ("b", 0, 15),
        ("a", 15, 30),
    ]


def test_whole_layers_leave_no_node_far_behind() -> None:
    nodes = [node(name, 64) for name in "abc"]
    assert [end - first for _, first, end in layers(place(model(7, head=0), nodes, spread=True))] == [2, 3, 2]


def test_pinned_order_is_kept_and_the_first_is_the_head() -> None:
    nodes = [node("a", 64, 800), node("b", 64, 100)]
    assert [stage.node_id for stage in place(model(), nodes, pinned=["id-b", "a"]).stages] == ["id-b", "id-a"]


def test_pinned_order_gives_way_where_the_head_does_not_fit() -> None:
    nodes = [node("a", 5), node("b", 14)]
    costs = model(layers=8, head=6 * GB)
    assert layers(place(costs, nodes, pinned=["a", "b"]))[0][0] == "b"


def test_cuts_lie_only_where_the_model_allows_them() -> None:
    wire: list[int | None] = [None] * 32
    wire[3] = wire[20] = wire[-1] = 8192
    placement = place(model(wire_bytes=wire), [node("a", 64), node("b", 64)], spread=True)
    assert [stage.end for stage in placement.stages] == [21, 32]


# -- refusals


def test_an_architecture_that_is_not_admitted_runs_whole() -> None:
    nodes = [node("slow", 64, 100), node("a", 14, 800), node("b", 14, 800)]
    placement = place(model(), nodes, admitted=False)
    assert layers(placement) == [("slow", 0, 32)]
    assert "llama" in placement.explanation[-1]


@pytest.mark.parametrize("options", [{"pinned": ["a", "b"]}, {"spread": True}])
def test_an_architecture_that_is_not_admitted_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match="llama"):
        place(model(), [node("a", 64), node("b", 64)], admitted=False, **options)


def test_an_architecture_that_is_not_admitted_and_fits_on_no_node_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match=r"llama.*a has 12.0 GB free"):
        place(model(), [node("a", 12), node("b", 12)], admitted=False)


def test_a_model_that_can_be_cut_nowhere_is_as_good_as_not_admitted() -> None:
    with pytest.raises(UnsupportedModelError, match="llama"):
        place(model(wire_bytes=[None] * 32), [node("a", 64), node("b", 64)], spread=True)


def test_too_little_memory_is_said_with_figures() -> None:
    with pytest.raises(OverloadedError) as caught:
        place(model(), [node("a", 12), node("b", 4.5)])
    assert caught.value.retry_after == 0
    for figure in ("19.0 GB", "17.0 GB of weights", "1.0 GB for 8,192 tokens", "a has 12.0 GB", "b has 4.5 GB"):
        assert figure in caught.value.message


def test_memory_for_the_context_counts() -> None:
    nodes = [node("a", 20)]
    assert layers(place(model(), nodes, context_tokens=100)) == [("a", 0, 32)]
    with pytest.raises(OverloadedError):
        place(model(), nodes, context_tokens=20_000)


def test_more_nodes_than_layers() -> None:
    with pytest.raises(InvalidRequestError, match="2 layers, too few for 3"):
        place(model(2), [node("a", 64), node("b", 64), node("c", 64)], spread=True)


def test_wrong_pins() -> None:
    nodes = [node("a", 64), node("b", 64), replace(node("c", 64), name="b")]
    with pytest.raises(NotFoundError, match=r"no node z .*a, b"):
        place(model(), nodes, pinned=["z"])
    with pytest.raises(InvalidRequestError, match="pinned twice"):
        place(model(), nodes, pinned=["a", "id-a"])
    with pytest.raises(InvalidRequestError, match="2 nodes are named b"):
        place(model(), nodes, pinned=["b"])
    with pytest.raises(UnavailableError):
        place(model(), [])


# -- properties


@st.composite
def clusters(draw: st.DrawFn) -> tuple[ModelCosts, list[NodeFacts], dict[tuple[str, str], LinkFacts]]:
    n = draw(st.integers(1, 9))
    sizes = draw(st.lists(st.integers(1, 800 * MB), min_size=n, max_size=n))
    costs = model(n, layer_bytes=sizes, head=draw(st.integers(0, GB)), kv=draw(st.integers(0, 30_000)))
    nodes = [
        NodeFacts(f"id-{name}", name, draw(st.integers(0, 4 * GB)), draw(st.integers(0, 900)) * GB)
        for name in "abcd"[: draw(st.integers(1, 4))]
    ]
    latency = st.sampled_from([0.00002, 0.0003, 0.004])
    links = {
        (a.node_id, b.node_id): LinkFacts(draw(latency), draw(st.sampled_from([1e7, 1e9])))
        for a, b in combinations(nodes, 2)
        if draw(st.booleans())
    }
    return costs, nodes, links


def predicted(
    costs: ModelCosts, ring: list[NodeFacts], ends: list[int], links: dict[tuple[str, str], LinkFacts]
) -> float:
    total = 0.0
    for i, (facts, first, end) in enumerate(zip(ring, [0, *ends], ends, strict=False)):
        total += costs.weights(first, end) / (facts.memory_bandwidth_bytes_per_second or UNMEASURED_BANDWIDTH)
        if len(ring) > 1:
            after = ring[(i + 1) % len(ring)]
            link = links.get((facts.node_id, after.node_id), links.get((after.node_id, facts.node_id), UNMEASURED_LINK))
            total += link.latency_seconds + 8192 / link.bandwidth_bytes_per_second
    return total


def all_splits(costs: ModelCosts, ring: list[NodeFacts]) -> list[list[int]]:
    """Every way to cut the model over the ring that fits."""
    found = []
    for cuts in combinations(range(1, costs.n_layers), len(ring) - 1):
        ends = [*cuts, costs.n_layers]
        ranges = zip([0, *cuts], ends, ring, strict=True)
        if all(needed_memory(costs, first, end, 8192) <= facts.free_memory_bytes for first, end, facts in ranges):
            found.append(ends)
    return found


@given(clusters(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_plan_covers_the_model_fits_and_is_no_slower_than_one_machine(
    cluster: tuple[ModelCosts, list[NodeFacts], dict[tuple[str, str], LinkFacts]], spread: bool
) -> None:
    costs, nodes, links = cluster
    singles = [predicted(costs, [facts], [costs.n_layers], links) for facts in nodes if all_splits(costs, [facts])]
    try:
        placement = place(costs, nodes, links=links, spread=spread)
    except InvalidRequestError:
        assert spread and len(nodes) > costs.n_layers
        return
    except OverloadedError:
        counts = [len(nodes)] if spread else range(1, len(nodes) + 1)
        rings = [list(ring) for size in counts for ring in combinations(nodes, size)]
        if spread:  # of the orders, it looks at one ring begun at each node
            assert not any(all(all_splits(costs, list(order)) for order in permutations(ring)) for ring in rings)
        else:
            assert not singles
        return
    by_id = {facts.node_id: facts for facts in nodes}
    ring = [by_id[stage.node_id] for stage in placement.stages]
    assert len(set(ring)) == len(ring)
    assert len(ring) == len(nodes) or not spread
    assert placement.stages[0].first == 0
    assert placement.stages[-1].end == costs.n_layers
    for before, after in zip(placement.stages, placement.stages[1:], strict=False):
        assert before.end == after.first
    for stage in placement.stages:
        assert stage.first < stage.end
        assert needed_memory(costs, stage.first, stage.end, 8192) <= by_id[stage.node_id].free_memory_bytes
    assert sum(placement.weight_bytes.values()) == costs.weights(0, costs.n_layers)
    assert sum(placement.kv_bytes.values()) == costs.kv(0, costs.n_layers, 8192)
    ends = [stage.end for stage in placement.stages]
    assert placement.predicted_seconds_per_token == pytest.approx(predicted(costs, ring, ends, links))
    if singles and not spread:
        fewest = min(singles)
        assert placement.predicted_seconds_per_token <= fewest
        if len(ring) > 1:
            assert placement.predicted_seconds_per_token <= fewest * (1 - EARNS_ITS_PLACE)
    assert len(placement.explanation) == len(ring) + 2
    assert all(facts.name in line for facts, line in zip(ring, placement.explanation, strict=False))


@given(clusters())
@settings(max_examples=300, deadline=None)
def test_no_other_cut_of_the_ring_has_a_faster_slowest_stage(
    cluster: tuple[ModelCosts, list[NodeFacts], dict[tuple[str, str], LinkFacts]],
) -> None:
    costs, ring, _ = cluster

    def slowest(ends: list[int]) -> float:
        ranges = zip([0, *ends], ends, ring, strict=False)
        return max(stage_seconds(costs, first, end, facts) for first, end, facts in ranges)

    possible = all_splits(costs, ring)
    ends = Splitter(costs, 8192).split(ring)
    if not possible:
        assert ends is None
        return
    assert ends in possible
    assert slowest(ends) == pytest.approx(min(map(slowest, possible)))


def test_headroom_grows_with_the_weights() -> None:
    assert headroom(0) >= 64 * 1024 * 1024
    assert headroom(100 * GB) >= 5 * GB


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (10_400_000, "10.4 MB"), (999_960_000, "1.0 GB"), (17 * GB, "17.0 GB")],
)
def test_size_text(nbytes: int, text: str) -> None:
    assert size_text(nbytes) == text
