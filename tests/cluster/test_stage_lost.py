"""A node of the ring dies or freezes: what runs fails at once and says why, and the cluster heals when it is back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from running_cluster import Cluster, Daemon, running, until

from tandem.v1 import generation_pb2 as pb
from tandem.v1 import membership_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub

READY = membership_pb2.PIPELINE_STATE_READY
DEGRADED = membership_pb2.PIPELINE_STATE_DEGRADED
NAME = "tandem-demo-qwen"
LONG = 4000
"""More tokens than are sampled until something is broken."""
BACK_SECONDS = 40.0
"""For a node to start, on a busy machine, and for the ring to close."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, the embedded model over both, and a gateway. Each test leaves it as it was."""
    with running(tmp_path_factory.mktemp("lost"), 2, model="tandem-demo") as cluster:
        yield cluster


@dataclass
class Watched:
    """A long generation, read in a thread."""

    tokens: int = 0
    failed: pb.Failed | None = None
    error: dict[str, Any] | None = None
    """What a client of the gateway is told in band."""
    refused: str = ""
    ended: float = 0.0
    running: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def wait_running(self) -> None:
        """Waits until tokens come."""
        assert self.running.wait(20), self.refused

    def end(self) -> None:
        self.ended = time.monotonic()
        self.over.set()


def over_grpc(cluster: Cluster) -> Watched:
    """Starts a generation at the head itself."""
    watched = Watched()

    def read() -> None:
        request = pb.GenerateRequest(model=NAME, text="Once upon a time", max_tokens=LONG, ignore_eos=True)
        try:
            with cluster.channel() as channel:
                for response in GenerationServiceStub(channel).Generate(request, timeout=60):
                    for event in response.events:
                        watched.tokens += len(event.token_ids)
                        if watched.tokens >= 5:
                            watched.running.set()
                        if event.HasField("failed"):
                            watched.failed = event.failed
        except grpc.RpcError as error:
            watched.refused = str(error)
        finally:
            watched.end()

    threading.Thread(target=read, daemon=True).start()
    return watched


def over_http(cluster: Cluster) -> Watched:
    """Starts a generation at the gateway."""
    watched = Watched()
    body = {"model": NAME, "prompt": "Once upon a time", "max_tokens": LONG, "ignore_eos": True, "stream": True}

    def read() -> None:
        try:
            with requests.post(f"{cluster.base}/v1/completions", json=body, stream=True, timeout=60) as response:
                watched.refused = "" if response.ok else response.text
                for line in response.iter_lines():
                    if line.startswith(b"data: {"):
                        chunk = json.loads(line.removeprefix(b"data: "))
                        watched.tokens += 1
                        if watched.tokens >= 5:
                            watched.running.set()
                        watched.error = chunk.get("error", watched.error)
        finally:
            watched.end()

    threading.Thread(target=read, daemon=True).start()
    return watched


def seconds_until_over(generations: list[Watched], since: float) -> float:
    for watched in generations:
        assert watched.over.wait(30)
    return max(watched.ended for watched in generations) - since


def answer(cluster: Cluster) -> requests.Response:
    """A short greedy completion."""
    body = {"model": NAME, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    return requests.post(f"{cluster.base}/v1/completions", json=body, timeout=30)


def text(cluster: Cluster) -> str:
    response = answer(cluster)
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["text"])


def pipeline(cluster: Cluster, node: int) -> membership_pb2.Pipeline:
    (found,) = cluster.topology(node).pipelines
    return found


def wait_degraded(cluster: Cluster, node: int, *words: str, seconds: float = 3.0) -> None:
    """Waits until a node and the gateway say what is missing, and that nothing is served."""

    def told() -> bool:
        found = pipeline(cluster, node)
        health = requests.get(f"{cluster.base}/health", timeout=5)
        return (
            found.state == DEGRADED
            and health.status_code == 503
            and all(word in found.reason and word in health.json()["missing"][0] for word in words)
        )

    until(told, seconds)
    refused = answer(cluster)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] in ("model_degraded", "model_unavailable")


def wait_healed(cluster: Cluster, expected: str) -> None:
    """Waits until every node holds its stage and the model answers as before."""
    until(lambda: requests.get(f"{cluster.base}/health", timeout=5).status_code == 200, BACK_SECONDS)
    until(lambda: all(pipeline(cluster, node).state == READY for node in range(2)), 5)
    until(lambda: all(len(cluster.shards(node)) == 1 for node in range(2)), 5)
    assert text(cluster) == expected


def untouched(daemons: list[Daemon]) -> list[int]:
    assert all(daemon.process.poll() is None for daemon in daemons)
    return [daemon.process.pid for daemon in daemons]


def test_a_stage_that_is_killed_and_started_again(cluster: Cluster) -> None:
    expected, epoch = text(cluster), pipeline(cluster, 0).epoch
    head, stage = cluster.nodes
    assert cluster.gateway is not None
    others = [head, cluster.gateway]
    processes = untouched(others)
    direct, through = over_grpc(cluster), over_http(cluster)
    direct.wait_running()
    through.wait_running()

    killed = time.monotonic()
    stage.kill()
    assert seconds_until_over([direct, through], killed) < 2
    assert direct.failed is not None
    assert direct.failed.code == "stage_lost"
    assert "stage 1" in direct.failed.message
    assert stage.name in direct.failed.message
    assert direct.tokens < LONG
    assert through.error is not None
    assert through.error["code"] == "stage_lost"
    assert stage.name in through.error["message"]
    wait_degraded(cluster, 0, "stage 1", stage.name)

    cluster.restart(stage)
    wait_healed(cluster, expected)
    assert pipeline(cluster, 0).epoch > epoch
    assert untouched(others) == processes


def test_a_stage_that_freezes_and_goes_on(cluster: Cluster) -> None:
    expected = text(cluster)
    stage = cluster.nodes[1]
    direct = over_grpc(cluster)
    direct.wait_running()

    frozen = time.monotonic()
    stage.pause()
    try:
        assert seconds_until_over([direct], frozen) < 7
        assert direct.failed is not None
        assert direct.failed.code == "stage_lost"
        assert stage.name in direct.failed.message
        wait_degraded(cluster, 0, "stage 1", stage.name)
    finally:
        stage.resume()
    wait_healed(cluster, expected)


def test_a_head_that_is_killed_and_started_again_is_given_its_stage_by_the_other(cluster: Cluster) -> None:
    expected, epoch = text(cluster), pipeline(cluster, 0).epoch
    head, stage = cluster.nodes
    assert cluster.gateway is not None
    others = [stage, cluster.gateway]
    processes = untouched(others)
    through = over_http(cluster)
    through.wait_running()

    killed = time.monotonic()
    head.kill()
    assert seconds_until_over([through], killed) < 2
    assert through.error is not None
    assert through.error["code"] == "head_lost"
    wait_degraded(cluster, 1, "stage 0", head.name)

    cluster.restart(head)
    wait_healed(cluster, expected)
    assert pipeline(cluster, 1).epoch > epoch
    assert untouched(others) == processes


def test_a_head_that_freezes_and_goes_on(cluster: Cluster) -> None:
    expected = text(cluster)
    head = cluster.nodes[0]
    through = over_http(cluster)
    through.wait_running()
    frozen = time.monotonic()
    head.pause()
    try:
        assert seconds_until_over([through], frozen) < 10
        assert through.error is not None
        wait_degraded(cluster, 1, "stage 0", head.name, seconds=5)
    finally:
        head.resume()
    wait_healed(cluster, expected)


@pytest.mark.parametrize("away", [0, 1], ids=["head", "stage"])
def test_what_was_unloaded_while_a_node_was_away_does_not_come_back(cluster: Cluster, away: int) -> None:
    there = 1 - away
    node = cluster.nodes[away]
    old = pipeline(cluster, there).pipeline_id
    node.pause()
    try:
        until(lambda: cluster.topology(there).nodes[1].state == membership_pb2.NODE_STATE_LOST, 6)
        cluster.unload("tandem-demo", there)
        assert cluster.shards(there) == []
    finally:
        node.resume()
    until(lambda: cluster.shards(away) == [], 15)
    assert cluster.shards(there) == []
    for by in range(2):
        until(lambda by=by: not cluster.topology(by).pipelines, 5)
    assert cluster.load("tandem-demo").pipeline_id != old
    until(lambda: text(cluster), 10)


@pytest.mark.slow
@pytest.mark.parametrize("index", [1, 2])
def test_of_three_stages_the_one_that_died_is_named(tmp_path: Path, index: int) -> None:
    with running(tmp_path, 3, model="tandem-demo") as cluster:
        node_id = pipeline(cluster, 0).stages[index].node_ids[0]
        stage = next(node for node in cluster.nodes if node.node_id == node_id)
        direct = over_grpc(cluster)
        direct.wait_running()
        killed = time.monotonic()
        stage.kill()
        assert seconds_until_over([direct], killed) < 2
        assert direct.failed is not None
        assert direct.failed.code == "stage_lost"
        assert stage.name in direct.failed.message
