"""What a running pipeline refuses: links and loads of an epoch that is over, of another plan, of what is not here.

The nodes are real, and a generation runs while somebody knocks: it must not notice.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from running_cluster import Cluster

from tandem.v1 import generation_pb2, membership_pb2, model_pb2, pipeline_pb2, shard_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub
from tandem.v1.pipeline_pb2_grpc import PipelineServiceStub
from tandem.v1.shard_pb2_grpc import ShardServiceStub

STALE = grpc.StatusCode.FAILED_PRECONDITION
HEAD, LAST = 0, 1
TOKENS = 250
"""Enough for a generation to outlast a knock or two."""


def pipeline_of(cluster: Cluster) -> membership_pb2.Pipeline:
    (pipeline,) = cluster.topology().pipelines
    assert pipeline.state == membership_pb2.PIPELINE_STATE_READY
    return pipeline


def good_hello(cluster: Cluster, to: int) -> pipeline_pb2.LinkHello:
    """What the neighbour said when it opened the link that runs."""
    (shard,) = cluster.shards(to)
    pipeline, sender = pipeline_of(cluster), cluster.nodes[1 - to]
    assert shard.epoch == pipeline.epoch >= 1
    return pipeline_pb2.LinkHello(
        pipeline_id=pipeline.pipeline_id,
        epoch=pipeline.epoch,
        node_id=sender.node_id,
        incarnation=next(each.incarnation for each in cluster.topology().nodes if each.node_id == sender.node_id),
        plan_digest=shard.digest,
    )


def knock(cluster: Cluster, node: int, hello: pipeline_pb2.LinkHello) -> tuple[grpc.StatusCode, str]:
    """How a node refuses a link; fails where it takes it."""
    with cluster.channel(node) as channel:
        request = pipeline_pb2.StreamActivationsRequest(log_index=1, hello=hello)
        with pytest.raises(grpc.RpcError) as caught:
            list(PipelineServiceStub(channel).StreamActivations(iter([request]), timeout=20))
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), caught.value.details() or ""


def tokens(cluster: Cluster, running: threading.Event | None = None, *, count: int = TOKENS) -> list[int]:
    """The greedy tokens of a long generation; ``running`` is set at its fifth."""
    request = generation_pb2.GenerateRequest(
        model="tandem-demo-qwen",
        text="Once upon a time",
        max_tokens=count,
        ignore_eos=True,
        sampling=generation_pb2.SamplingParams(temperature=0),
    )
    out: list[int] = []
    with cluster.channel() as channel:
        for response in GenerationServiceStub(channel).Generate(request, timeout=120):
            for event in response.events:
                assert not event.HasField("failed"), event
                out += event.token_ids
                if running is not None and len(out) >= 5:
                    running.set()
    return out


@pytest.fixture(scope="module")
def alone(demo: Cluster) -> list[int]:
    """What the generation gives while nobody knocks."""
    expected = tokens(demo)
    assert len(expected) == TOKENS
    return expected


@pytest.mark.parametrize("node", [HEAD, LAST], ids=["head", "last stage"])
def test_a_link_of_another_epoch_plan_or_pipeline_is_refused_and_nobody_notices(
    demo: Cluster, alone: list[int], node: int
) -> None:
    good, before = good_hello(demo, node), pipeline_of(demo)

    def changed(**fields: object) -> pipeline_pb2.LinkHello:
        hello = pipeline_pb2.LinkHello()
        hello.CopyFrom(good)
        for name, value in fields.items():
            setattr(hello, name, value)
        return hello

    running = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        generation = pool.submit(tokens, demo, running)
        assert running.wait(30)
        code, words = knock(demo, node, changed(epoch=good.epoch - 1))
        assert code is STALE
        assert f"epoch {good.epoch - 1} of {good.pipeline_id} is stale: {good.epoch} is" in words
        # An epoch is taken over with the right plan only, or a stranger could shut the ring's own links out.
        for hello in (changed(plan_digest="0" * 32), changed(plan_digest="", epoch=good.epoch + (node == LAST))):
            code, words = knock(demo, node, hello)
            assert code is STALE
            assert f"the plan of {good.pipeline_id} has another digest here" in words
        code, words = knock(demo, node, changed(node_id="stranger"))
        assert code is STALE
        assert f"stranger is not the stage before this one in {good.pipeline_id}" in words
        code, words = knock(demo, node, changed(pipeline_id="another"))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "holds no part of another" in words
        assert not generation.done(), "the generation was over before the last knock"
        assert generation.result(120) == alone
    assert pipeline_of(demo) == before
    assert good_hello(demo, node) == good
    assert tokens(demo, count=20) == alone[:20]


def load(cluster: Cluster, node: int, epoch: int, digest: str) -> list[shard_pb2.LoadShardResponse]:
    """What a node says when it is told to load the stage that it holds."""
    pipeline = pipeline_of(cluster)
    pipeline.epoch = epoch
    plan = model_pb2.Plan(model=pipeline.model, stages=pipeline.stages, digest=digest)
    with cluster.channel(node) as channel:
        request = shard_pb2.LoadShardRequest(pipeline=pipeline, plan=plan)
        return list(ShardServiceStub(channel).LoadShard(request, timeout=20))


@pytest.mark.parametrize("node", [HEAD, LAST], ids=["head", "last stage"])
def test_a_load_of_another_epoch_or_plan_is_refused_and_nobody_notices(
    demo: Cluster, alone: list[int], node: int
) -> None:
    good, before = good_hello(demo, node), pipeline_of(demo)
    for epoch, digest, words in (
        (good.epoch - 1, good.plan_digest, f"epoch {good.epoch - 1} of {good.pipeline_id} is stale"),
        (good.epoch, "0" * 32, f"another plan of {good.pipeline_id} is loaded here"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            load(demo, node, epoch, digest)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is STALE
        assert words in (caught.value.details() or "")
    # What is loaded already, asked for rightly, is there at once.
    (response,) = load(demo, node, good.epoch, good.plan_digest)
    assert response.ready.digest == good.plan_digest
    assert pipeline_of(demo) == before
    assert tokens(demo, count=20) == alone[:20]
