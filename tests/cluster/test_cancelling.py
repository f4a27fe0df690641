"""Ending a generation by its id, from outside: in band for whoever reads it, and on every node."""

from __future__ import annotations

import time
from collections.abc import Callable

from running_cluster import Cluster, is_busy, until

from tandem.v1 import generation_pb2 as pb
from tandem.v1.generation_pb2_grpc import GenerationServiceStub

LONG = [20 + index % 2000 for index in range(1100)]
"""Three chunks of a prefill."""


def cancel(cluster: Cluster, generation_id: str, node: int = 0) -> bool:
    """Whether there was something to cancel on a node."""
    with cluster.channel(node) as channel:
        request = pb.CancelGenerationRequest(generation_id=generation_id)
        return bool(GenerationServiceStub(channel).CancelGeneration(request, timeout=20).was_running)


def is_free(cluster: Cluster) -> bool:
    """no node holds anything of a request"""
    shards = [shard for node in range(2) for shard in cluster.shards(node)]
    assert len(shards) == 2
    return not any(map(is_busy, shards))


def cancelled_when(
    cluster: Cluster, request: pb.GenerateRequest, ready: Callable[[list[pb.GenerationEvent]], bool]
) -> list[pb.GenerationEvent]:
    """The events of a generation that is cancelled as soon as those so far are ``ready``; fails where the stream does
    not end well, and soon."""
    events: list[pb.GenerationEvent] = []
    asked = 0.0
    with cluster.channel() as channel:
        for response in GenerationServiceStub(channel).Generate(request, timeout=60):
            events += response.events
            if not asked and ready(events):
                asked = time.monotonic()
                assert cancel(cluster, request.generation_id)
    assert asked, "it ended by itself"
    assert time.monotonic() - asked < 5
    assert [event.sequence for event in events] == list(range(len(events)))
    return events


def test_a_generation_is_cancelled_in_band_and_freed_on_every_node(demo: Cluster) -> None:
    request = pb.GenerateRequest(
        generation_id="cancelled", model="tandem-demo-qwen", text="Once upon a time", ignore_eos=True
    )
    events = cancelled_when(demo, request, lambda so_far: sum(len(event.token_ids) for event in so_far) >= 5)
    *_, last = events
    assert last.finished.reason == pb.FINISH_REASON_CANCELLED
    assert last.finished.completion_tokens == sum(len(event.token_ids) for event in events) >= 5
    assert [event for event in events[:-1] if event.HasField("finished") or event.HasField("failed")] == []
    until(lambda: is_free(demo), 5)
    assert not cancel(demo, "cancelled"), "it was over"


def test_a_prompt_is_cancelled_in_the_middle_of_its_prefill(demo: Cluster) -> None:
    request = pb.GenerateRequest(
        generation_id="prefilling", model="tandem-demo-qwen", token_ids=pb.TokenIds(ids=LONG), max_tokens=4
    )
    events = cancelled_when(demo, request, lambda so_far: any(event.HasField("prefill") for event in so_far))
    assert events[-1].finished.reason == pb.FINISH_REASON_CANCELLED
    assert events[-1].finished.prompt_tokens == len(LONG)
    assert events[-1].finished.completion_tokens == 0
    until(lambda: is_free(demo), 30)


def test_only_the_one_that_is_named_ends(demo: Cluster) -> None:
    """No other generation, and none that the node which is asked does not drive."""
    request = pb.GenerateRequest(
        generation_id="spared", model="tandem-demo-qwen", text="Hello", max_tokens=30, ignore_eos=True
    )
    events: list[pb.GenerationEvent] = []
    with demo.channel() as channel:
        for response in GenerationServiceStub(channel).Generate(request, timeout=60):
            if not events:
                for name in ("never there", "", "spare"):
                    assert not cancel(demo, name)
                assert not cancel(demo, "spared", node=1)
            events += response.events
    assert events[-1].finished.reason == pb.FINISH_REASON_LENGTH
    assert sum(len(event.token_ids) for event in events) == 30
