"""Where a model goes: memory first, then speed. Facts in, a placement out; nothing is measured or sent here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import NamedTuple

from node.cluster.costs import UNMEASURED_LINK, LinkFacts, ModelCosts, NodeFacts, size_text
from node.cluster.splitting import Splitter, headroom, needed_memory, stage_seconds
from tandem.errors import InvalidRequestError, NotFoundError, OverloadedError, UnavailableError, UnsupportedModelError

EARNS_ITS_PLACE = 0.05
"""By what share of the time per token a plan must beat every plan over fewer nodes."""

_ALL_SUBSETS = 8
_ALL_RINGS = 6

Links = Mapping[tuple[str, str], LinkFacts]
"""Measured links by the node ids of their ends; either order."""


class StagePlacement(NamedTuple):
    """A stage with the layers [first, end) on a node."""

    node_id: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model goes, in ring order: the first stage is the head.

    ``weight_bytes`` and ``kv_bytes`` are by node id, the latter for the context that was asked for; ``explanation`` is
    for people: a line per node, the sum, and why it is this plan.
    """

    stages: tuple[StagePlacement, ...]
    explanation: tuple[str, ...]
    predicted_seconds_per_token: float
    weight_bytes: Mapping[str, int]
    kv_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Candidate:
    ring: tuple[NodeFacts, ...]
    ends: tuple[int, ...]
    stage_seconds: tuple[float, ...]
    hop_seconds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        return sum(self.stage_seconds) + sum(self.hop_seconds)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return list(zip((0, *self.ends), self.ends, strict=False))

    @property
    def names(self) -> str:
        return ", ".join(node.name for node in self.ring)


def plan(
    model: ModelCosts,
    nodes: Sequence[NodeFacts],
    *,
    context_tokens: int,
    links: Links,
    admitted: bool,
    pinned: Sequence[str] = (),
    spread: bool = False,
) -> Placement:
    """Place a model: the plan with the least predicted time per token, of those that fit into memory.

    Within a plan, layers are shared out so that the slowest stage is as fast as possible: a ring that several clients
    keep full is as fast as that. A plan over more nodes is taken only where it is at least ``EARNS_ITS_PLACE`` faster
    than each one over fewer. Equal facts give equal plans.

    Args:
        model: what its parts cost.
        nodes: where it may go.
        context_tokens: tokens of KV that must fit.
        links: what was measured; a link that is missing counts as ``UNMEASURED_LINK``.
        admitted: whether the architecture may be cut.
        pinned: ids or names of the nodes that the plan must use, each of them and no other. The order is kept, the
            first being the head, unless it does not fit and another one does.
        spread: use each of the nodes.

    Raises:
        OverloadedError: too little memory is free; the message has the figures of each node.
        UnsupportedModelError: an architecture that is not admitted needs, or was asked onto, more than one node.
        InvalidRequestError: a node is pinned twice, or there are more nodes than layers.
        NotFoundError: a pinned node is not among the nodes.
        UnavailableError: there is no node.
    """
    if not nodes:
        raise UnavailableError(f"there is no node to put {model.model_id} on")
    chosen = _pinned(nodes, pinned) if pinned else sorted(nodes, key=_rank)
    admitted = admitted and (model.n_layers == 1 or any(wire is not None for wire in model.wire_bytes[:-1]))
    exactly = spread or bool(pinned)
    if exactly and len(chosen) > 1:
        _check_spread(model, chosen, admitted)
    planner = _Planner(model, context_tokens, links)
    if exactly:
        best = (planner.candidate(chosen) if pinned else None) or planner.best_of([chosen])
    else:
        best = planner.best(chosen, len(chosen) if admitted else 1)
    if best is None:
        raise _does_not_fit(model, chosen, context_tokens, admitted=admitted, exactly=exactly)
    alone = planner.best(chosen, 1)
    why = _reason(best, alone, chosen, model, exactly=exactly, admitted=admitted)
    return _placement(model, best, context_tokens, why)


class _Planner:
    def __init__(self, model: ModelCosts, context_tokens: int, links: Links) -> None:
        self._model = model
        self._links = links
        self._splitter = Splitter(model, context_tokens)
        self._least = needed_memory(model, 0, model.n_layers, context_tokens) - headroom(0)

    def best(self, nodes: Sequence[NodeFacts], most: int) -> _Candidate | None:
        """The fastest plan over at most that many of the nodes, of which more must earn their place."""
        best: _Candidate | None = None
        for size in range(1, min(most, len(nodes), self._model.n_layers) + 1):
            limit = float("inf") if best is None else best.seconds * (1 - EARNS_ITS_PLACE)
            found = self.best_of(_subsets(nodes, size), limit)
            if found is not None and found.seconds < limit:
                best = found
        return best

    def best_of(self, subsets: Sequence[Sequence[NodeFacts]], limit: float = float("inf")) -> _Candidate | None:
        """The fastest plan over all nodes of one of the subsets; plans that cannot beat the limit may be left out."""
        best: _Candidate | None = None
        for subset in subsets:
            if sum(node.free_memory_bytes for node in subset) < self._least:
                continue
            fastest = min(stage_seconds(self._model, 0, self._model.n_layers, node) for node in subset)
            if fastest >= min(limit, best.seconds if best else limit):
                continue
            for ring in self._rings(subset):
                found = self.candidate(ring)
                if found is not None and (best is None or found.seconds < best.seconds):
                    best = found
        return best

    def candidate(self, ring: Sequence[NodeFacts]) -> _Candidate | None:
        """The plan for the nodes in that order; None when it does not fit."""
        ends = self._splitter.split(ring)
        if ends is None:
            return None
        ranges = zip((0, *ends), ends, ring, strict=False)
        times = tuple(stage_seconds(self._model, first, end, node) for first, end, node in ranges)
        hops = (
            self._link(node, ring[(i + 1) % len(ring)]).seconds(self._model.wire_bytes[end - 1] or 0)
            for i, (node, end) in enumerate(zip(ring, ends, strict=True))
        )
        return _Candidate(tuple(ring), tuple(ends), times, tuple(hops) if len(ring) > 1 else ())

    def _rings(self, nodes: Sequence[NodeFacts]) -> Iterator[Sequence[NodeFacts]]:
        """The ring with the quickest hops, begun at each of its nodes: the head has more to hold than the others."""
        first, *others = nodes
        if len(nodes) <= _ALL_RINGS:
            ring = min(([first, *order] for order in permutations(others)), key=self._hops)
        else:
            ring = [first]
            while others:
                ring.append(min(others, key=lambda node: self._hop(ring[-1], node)))
                others.remove(ring[-1])
        for i in range(len(ring)):
            yield ring[i:] + ring[:i]

    def _hops(self, ring: Sequence[NodeFacts]) -> float:
        return sum(self._hop(node, ring[(i + 1) % len(ring)]) for i, node in enumerate(ring))

    def _hop(self, a: NodeFacts, b: NodeFacts) -> float:
        return self._link(a, b).seconds(self._model.wire_bytes[-1] or 0)

    def _link(self, a: NodeFacts, b: NodeFacts) -> LinkFacts:
        found = self._links.get((a.node_id, b.node_id)) or self._links.get((b.node_id, a.node_id))
        return found or UNMEASURED_LINK


def _rank(node: NodeFacts) -> tuple[int, int, str]:
    return -node.memory_bandwidth_bytes_per_second, -node.free_memory_bytes, node.node_id


def _subsets(nodes: Sequence[NodeFacts], size: int) -> list[Sequence[NodeFacts]]:
    """The sets of that size to look at: all of them, or of many nodes the fastest and the roomiest."""
    if len(nodes) <= _ALL_SUBSETS:
        return list(combinations(nodes, size))
    return [nodes[:size], sorted(nodes, key=lambda node: (-node.free_memory_bytes, _rank(node)))[:size]]


def _pinned(nodes: Sequence[NodeFacts], pinned: Sequence[str]) -> list[NodeFacts]:
    chosen = []
    for name in pinned:
        found = [n for n in nodes if n.node_id == name] or [n for n in nodes if n.name == name]
        if not found:
            known = ", ".join(sorted(node.name for node in nodes))
            raise NotFoundError(f"there is no node {name} to load onto; there are {known}")
        if len(found) > 1:
            raise InvalidRequestError(f"{len(found)} nodes are named {name}: give the node id", param="node_ids")
        if found[0] in chosen:
            raise InvalidRequestError(f"node {name} is pinned twice", param="node_ids")
        chosen.append(found[0])
    return chosen


def _check_spread(model: ModelCosts, nodes: Sequence[NodeFacts], admitted: bool) -> None:
    if len(nodes) > model.n_layers:
        raise InvalidRequestError(
            f"{model.model_id} has {model.n_layers} layers, too few for {len(nodes)} nodes", param="node_ids"
        )
    if not admitted:
        raise UnsupportedModelError(
            f"{model.model_id} cannot go on {len(nodes)} nodes: the architecture {model.model_type} is not proven to"
            " compute the same when it is cut, and runs on one node only"
        )


def _does_not_fit(
    model: ModelCosts, nodes: Sequence[NodeFacts], context_tokens: int, *, admitted: bool, exactly: bool
) -> OverloadedError | UnsupportedModelError:
    weights, kv = model.weights(0, model.n_layers), model.kv(0, model.n_layers, context_tokens)
    spare = headroom(weights)
    message = (
        f"{model.model_id} needs {size_text(weights + kv + spare)} of memory ({size_text(weights)} of weights,"
        f" {size_text(kv)} for {context_tokens:,} tokens of context, {size_text(spare)} to work in); "
        + ", ".join(f"{node.name} has {size_text(node.free_memory_bytes)} free" for node in nodes)
    )
    if sum(node.free_memory_bytes for node in nodes) >= weights + kv + spare and len(nodes) > 1:
        if not admitted:
            return UnsupportedModelError(
                f"the architecture {model.model_type} runs on one node only, and no node is large enough: {message}"
            )
        message += ", into which no cut between whole layers fits"
    elif exactly and len(nodes) > 1:
        message += f", on all {len(nodes)} of which it was asked for"
    return OverloadedError(message, retry_after=0, code="insufficient_memory")


def _reason(
    best: _Candidate,
    alone: _Candidate | None,
    nodes: Sequence[NodeFacts],
    model: ModelCosts,
    *,
    exactly: bool,
    admitted: bool,
) -> str:
    if exactly:
        text = f"on exactly the {len(nodes)} nodes asked for" if len(nodes) > 1 else "on the node asked for"
        if len(nodes) > 1 and alone:
            text += f"; on {alone.names} alone it would take {_ms(alone.seconds)} per token"
        return text
    if len(best.ring) > 1:
        if alone is None:
            return f"on {len(best.ring)} nodes, because no single node has enough memory free"
        return f"on {len(best.ring)} nodes: on {alone.names} alone it would take {_ms(alone.seconds)} per token"
    if not admitted:
        return f"on one node, because the architecture {model.model_type} runs on one node only"
    if len(nodes) == 1:
        return "on one node, there is no other"
    return f"on one node: no plan over more is predicted to be {EARNS_ITS_PLACE:.0%} faster"


def _placement(model: ModelCosts, best: _Candidate, context_tokens: int, why: str) -> Placement:
    stages, weight_bytes, kv_bytes, lines = [], {}, {}, []
    for i, (node, (first, end)) in enumerate(zip(best.ring, best.ranges, strict=True)):
        stages.append(StagePlacement(node.node_id, first, end))
        weights = weight_bytes[node.node_id] = model.weights(first, end)
        kv = kv_bytes[node.node_id] = model.kv(first, end, context_tokens)
        layers = f"layers {first} to {end - 1}" if end - first > 1 else f"layer {first}"
        lines.append(
            f"{node.name}{' (head)' if i == 0 else ''}: {layers}, {size_text(weights)} of weights and {size_text(kv)}"
            f" of KV, {size_text(node.free_memory_bytes)} free, {_ms(best.stage_seconds[i])} per token"
        )
    total = f"{_ms(best.seconds)} per token predicted"
    if best.hop_seconds:
        total += f", of which {_ms(sum(best.hop_seconds))} for {len(best.hop_seconds)} hops"
    return Placement(tuple(stages), (*lines, total, why), best.seconds, weight_bytes, kv_bytes)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
