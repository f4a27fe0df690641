"""Where a model goes: the facts of the model, the nodes and the links, put before the planner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from node.cluster.costs import LinkFacts, ModelCosts, NodeFacts
from node.cluster.local_model import LocalModel
from node.cluster.membership import Membership
from node.cluster.planner import plan
from node.cluster.store import ModelStore
from node.engine.headers import Headers
from node.engine.loading import ModelFacts, inspect_model, plan_digest, preferred_cast
from node.engine.worker import Worker
from tandem import rpc
from tandem.errors import NotFoundError, OverloadedError, PreconditionError, UnavailableError
from tandem.v1 import membership_pb2, model_pb2, types_pb2
from tandem.v1.membership_pb2_grpc import MembershipServiceStub

KV_SHARE: Final = 0.8
"""Share of the memory that weights leave free which caches may take."""
MAX_KV_TOKENS: Final = 1 << 20
DEFAULT_CONTEXT: Final = 32768
_PROBES: Final = 3
_PROBE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: which nodes or how many (none: the planner decides), and how much context must fit."""

    context_tokens: int = 0
    node_ids: tuple[str, ...] = ()
    stage_count: int = 0

    @property
    def exact(self) -> bool:
        """Whether nodes or their number were named."""
        return bool(self.node_ids or self.stage_count)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, with what each stage needs to load its part: weights and caches in bytes."""

    plan: model_pb2.Plan
    model: LocalModel
    headers: Headers
    weight_bytes: tuple[int, ...]
    kv_bytes: tuple[int, ...]


class Placer:
    """Makes plans for one node's ``Models``."""

    def __init__(self, worker: Worker, membership: Membership, store: ModelStore, dtype: str) -> None:
        self._worker = worker
        self._membership = membership
        self._store = store
        self._dtype = dtype

    async def place(self, asked: types_pb2.ModelRef, wish: Wish) -> Planned:
        """The plan that decodes fastest among those that fit.

        Raises:
            NotFoundError: no such model, not in that revision, or no such node.
            OverloadedError: memory is short; says how much.
            UnsupportedModelError: the architecture cannot be cut as asked.
        """
        model = await self._store.find(asked.model_id, asked.revision)
        headers = await self._store.headers(model)
        cast_to = await asyncio.to_thread(preferred_cast, model.folder, self._dtype)
        facts = await self._worker.run(partial(inspect_model, model.folder, headers, cast_to))
        nodes = self._candidates(wish)
        context = wish.context_tokens or min(model.context_tokens or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
        placement = plan(
            _costs(model.model_id, facts),
            [_node_facts(node) for node in nodes],
            context_tokens=context,
            links=await self._links(nodes),
            admitted=facts.admitted,
            pinned=[node.node_id for node in nodes] if wish.exact else (),
            spread=wish.exact,
        )
        ranges = [(first, end) for _, first, end in placement.stages]
        kv_tokens = _kv_tokens(facts, placement.stages, nodes)
        digest = await self._worker.run(partial(plan_digest, model.folder, headers, cast_to, ranges))
        made = model_pb2.Plan(
            model=types_pb2.ModelRef(model_id=model.model_id, revision=model.revision),
            stages=[
                membership_pb2.Stage(node_ids=[node_id], segments=_segments(first, end, facts.layers))
                for node_id, first, end in placement.stages
            ],
            digest=digest,
            explanation=placement.explanation,
            cast_to=cast_to,
            kv_tokens=kv_tokens,
        )
        return _planned(made, model, headers, facts)

    async def adopt(self, given: model_pb2.Plan, context_tokens: int = 0) -> Planned:
        """A plan that somebody brings, made fit: with the digest that this node finds, and caches for what is free now.

        Raises:
            NotFoundError: a node of the plan is not alive; and as ``pinned``.
            OverloadedError: memory is short; says how much.
        """
        alive = {node.node_id: node for node in self.alive()}
        stages = [(stage.node_ids[0], *layers) for stage, layers in zip(given.stages, ranges_of(given), strict=True)]
        missing = [node_id for node_id, _, _ in stages if node_id not in alive]
        if missing:
            raise NotFoundError(f"no such node is alive: {', '.join(missing)}")
        model, headers, facts = await self._checked(given)
        made = model_pb2.Plan()
        made.CopyFrom(given)
        made.kv_tokens = _kv_tokens(facts, stages, list(alive.values()), context_tokens)
        digest = partial(plan_digest, model.folder, headers, given.cast_to, ranges_of(given))
        made.digest = await self._worker.run(digest)
        return _planned(made, model, headers, facts)

    async def pinned(self, given: model_pb2.Plan, headers: Headers) -> Planned:
        """What a plan that is in force needs to load. With the checkpoint's headers, its weights need not be here.

        Raises:
            NotFoundError: the model is not to be had in the plan's revision.
            PreconditionError: its stages do not cover the model's layers one after the other.
            CheckpointError: a file is missing or damaged; names it.
        """
        return _planned(given, *await self._checked(given, headers))

    async def _checked(
        self, given: model_pb2.Plan, headers: Headers | None = None
    ) -> tuple[LocalModel, Headers, ModelFacts]:
        model = await self._store.find(given.model.model_id, given.model.revision)
        headers = headers or await self._store.headers(model)
        facts = await self._worker.run(partial(inspect_model, model.folder, headers, given.cast_to))
        ranges = ranges_of(given)
        ends = [0, *(end for _, end in ranges)]
        if not ranges or ends[-1] != facts.layers or [first for first, _ in ranges] != ends[:-1]:
            raise PreconditionError(f"the plan's stages do not cover the {facts.layers} layers of {model.model_id}")
        return model, headers, facts

    def alive(self) -> list[membership_pb2.Node]:
        """The nodes that may take part."""
        nodes = self._membership.topology().nodes
        return [node for node in nodes if node.state == membership_pb2.NODE_STATE_ALIVE]

    def _candidates(self, wish: Wish) -> list[membership_pb2.Node]:
        alive = {node.node_id: node for node in self.alive()}
        if wish.node_ids:
            missing = [node_id for node_id in wish.node_ids if node_id not in alive]
            if missing:
                raise NotFoundError(f"no such node is alive: {', '.join(missing)}")
            return [alive[node_id] for node_id in wish.node_ids]
        own = self._membership.node_id
        ordered = sorted(
            alive.values(), key=lambda node: (node.node_id != own, -node.capabilities.free_memory_bytes, node.name)
        )
        if wish.stage_count > len(ordered):
            raise UnavailableError(f"{wish.stage_count} nodes were asked for, {len(ordered)} are alive")
        return ordered[: wish.stage_count] if wish.stage_count else ordered

    async def _links(self, nodes: Sequence[membership_pb2.Node]) -> Mapping[tuple[str, str], LinkFacts]:
        """What lies between each two nodes, by what this one measures to both."""
        own = self._membership.node_id
        others = [node.node_id for node in nodes if node.node_id != own]
        facts = dict(zip(others, await asyncio.gather(*map(self._probe, others)), strict=True))
        links = {}
        for a in nodes:
            for b in nodes:
                ends = [facts[node_id] for node_id in (a.node_id, b.node_id) if node_id in facts]
                if a.node_id != b.node_id and ends:
                    links[a.node_id, b.node_id] = LinkFacts(
                        max(end.latency_seconds for end in ends), min(end.bandwidth_bytes_per_second for end in ends)
                    )
        return links

    async def _probe(self, node_id: str) -> LinkFacts:
        stub = MembershipServiceStub(self._membership.channel(node_id))

        async def once(size: int) -> float:
            begin = time.perf_counter()
            request = membership_pb2.ProbeLinkRequest(payload=bytes(size))
            await rpc.unary(stub.ProbeLink(request, timeout=rpc.UNARY_DEADLINE))
            return time.perf_counter() - begin

        small = min([await once(64) for _ in range(_PROBES)])
        large = min([await once(_PROBE_BYTES) for _ in range(_PROBES)])
        return LinkFacts(small / 2, 2 * _PROBE_BYTES / max(large - small, 1e-6))


def ranges_of(plan: model_pb2.Plan) -> list[tuple[int, int]]:
    """The layers of each stage."""
    return [(stage.segments[0].first_layer, stage.segments[0].end_layer) for stage in plan.stages if stage.segments]


def _planned(plan: model_pb2.Plan, model: LocalModel, headers: Headers, facts: ModelFacts) -> Planned:
    ranges = ranges_of(plan)
    return Planned(
        plan,
        model,
        headers,
        tuple(facts.sizes.stage(first, end) for first, end in ranges),
        tuple(sum(facts.sizes.kv_per_token[first:end]) * plan.kv_tokens for first, end in ranges),
    )


def _kv_tokens(
    facts: ModelFacts, stages: Iterable[tuple[str, int, int]], nodes: Sequence[membership_pb2.Node], least: int = 0
) -> int:
    """Positions that fit on the tightest stage beside its weights; stages are (node id, first layer, end).

    Raises OverloadedError when they are fewer than ``least``, or none.
    """
    free = {node.node_id: node.capabilities.free_memory_bytes for node in nodes}
    tokens = MAX_KV_TOKENS
    for node_id, first, end in stages:
        cost = sum(facts.sizes.kv_per_token[first:end])
        if cost:
            tokens = min(tokens, int((free[node_id] - facts.sizes.stage(first, end)) * KV_SHARE / cost))
    if tokens < max(1, least):
        raise OverloadedError(
            f"the memory that is free beside the weights holds {max(0, tokens):,} tokens of context, "
            f"{max(1, least):,} are wanted",
            retry_after=0,
            code="out_of_memory",
        )
    return tokens


def _segments(first: int, end: int, layers: int) -> list[types_pb2.Segment]:
    """What a stage runs: its layers, and on the head the epilogue too."""
    own = types_pb2.Segment(first_layer=first, end_layer=end)
    if first == 0:
        return [own, types_pb2.Segment(first_layer=layers, end_layer=layers, epilogue=True)]
    return [own]


def _node_facts(node: membership_pb2.Node) -> NodeFacts:
    capabilities = node.capabilities
    return NodeFacts(
        node.node_id, node.name, capabilities.free_memory_bytes, capabilities.memory_bandwidth_bytes_per_second
    )


def _costs(model_id: str, facts: ModelFacts) -> ModelCosts:
    return ModelCosts(
        model_id=model_id,
        model_type=facts.model_type,
        layer_bytes=facts.sizes.layers,
        head_bytes=facts.sizes.head,
        caches=facts.sizes.caches,
        wire_bytes=facts.wire_bytes,
    )
