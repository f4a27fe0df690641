"""Models come and go: plans, progress, memory, partial files, and what is said when something is wrong."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import requests
from loading_cluster import MEMORY, clear, folder_of, free, halved, ids, refusal, text, three_nodes, wait_empty
from running_cluster import Cluster, until

from tandem.v1 import membership_pb2, model_pb2, types_pb2
from tandem.v1.model_pb2_grpc import ModelServiceStub

CONTEXT = 50_000
"""Tokens of the embedded model whose caches take more than half of a node's memory, on either of two nodes."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Cluster]:
    with three_nodes(tmp_path_factory.mktemp("loading"), models) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def empty(cluster: Cluster) -> Iterator[None]:
    """No test leaves anything loaded or reserved, however it ended."""
    yield
    clear(cluster)


# -- progress and memory


def test_a_load_tells_each_node_s_progress_by_bytes_and_unloading_gives_everything_back(cluster: Cluster) -> None:
    plan, *events, last = cluster.load_events("tandem-demo", stage_count=2)
    members = {node_id for stage in plan.plan.stages for node_id in stage.node_ids}
    assert len(members) == 2
    held = {cluster.nodes[node].node_id: cluster.shards(node) for node in range(3)}
    for node_id in members:
        told = [event.progress for event in events if event.progress.node_id == node_id]
        (shard,) = held[node_id]
        steps = [(each.phase, each.done_bytes) for each in told]
        assert steps == sorted(steps)
        assert all(each.done_bytes <= each.total_bytes for each in told)
        assert told[-1].phase == model_pb2.LOAD_PHASE_READY
        assert told[-1].done_bytes == told[-1].total_bytes == shard.weight_bytes > 0
    assert last.ready.state == membership_pb2.PIPELINE_STATE_READY
    assert [bool(shards) for shards in held.values()].count(True) == 2
    taken = [MEMORY - each for each in free(cluster)]
    for node, amount in zip(cluster.nodes, taken, strict=True):
        assert (amount > held[node.node_id][0].weight_bytes) if held[node.node_id] else amount == 0

    done = cluster.tandem("unload", "tandem-demo")
    assert done.returncode == 0, done.stderr
    wait_empty(cluster)


def test_loading_again_and_again_takes_no_more_memory(cluster: Cluster) -> None:
    """Each of the six loads would take 10 MB more on either node if nothing were given back."""
    before: list[int] = []
    for turn in range(9):
        pipeline = cluster.load("tandem-demo", 2)
        text(cluster, "tandem-demo-qwen", 0)
        assert cluster.unload(pipeline.pipeline_id) > 20_000_000
        if turn == 2:
            before = [node.memory() for node in cluster.nodes]
    grown = [node.memory() - earlier for node, earlier in zip(cluster.nodes, before, strict=True)]
    assert max(grown) < 40_000_000


def test_too_little_memory_is_said_with_figures_before_anything_is_loaded(cluster: Cluster) -> None:
    status, words = refusal(cluster, "tandem-demo", stage_count=2, context_tokens=10_000_000)
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "400.0 MB free" in words
    done = cluster.tandem("load", "tandem-demo", "--context", "10000000")
    assert done.returncode == 1
    assert "400.0 MB free" in done.stderr
    assert "Traceback" not in done.stderr
    wait_empty(cluster)


@pytest.mark.parametrize("pair", [("tandem-demo", "tandem-demo"), ("tandem-demo", "copy")], ids=["same", "other"])
def test_of_two_loads_at_once_one_wins_and_the_other_undoes(cluster: Cluster, pair: tuple[str, str]) -> None:
    """Both want the same two nodes and more than half of their memory."""
    plans = []
    for node, model in enumerate(pair):
        with cluster.channel(node) as channel:
            request = model_pb2.PlanModelRequest(
                model=types_pb2.ModelRef(model_id=model), node_ids=ids(cluster, node, 1 - node), context_tokens=CONTEXT
            )
            plans.append(ModelServiceStub(channel).PlanModel(request, timeout=20).plan)
    together = threading.Barrier(2)

    def load(node: int) -> membership_pb2.Pipeline | grpc.RpcError:
        together.wait(10)
        try:
            return cluster.load_events(node=node, plan=plans[node], context_tokens=CONTEXT)[-1].ready
        except grpc.RpcError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(load, range(2)))
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, membership_pb2.Pipeline)]
    (loser,) = [outcome for outcome in outcomes if isinstance(outcome, grpc.RpcError)]
    assert isinstance(loser, grpc.Call)
    if pair[0] == pair[1]:
        assert loser.code() is grpc.StatusCode.UNAVAILABLE
        assert "is being loaded" in (loser.details() or "")
    else:
        assert loser.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert re.search(r"of 400.0 MB are free|tokens of context, 50,000 are wanted", loser.details() or "")
    for node in range(2):
        (shard,) = cluster.shards(node)
        assert shard.pipeline_id == winner.pipeline_id
        (pipeline,) = cluster.topology(node).pipelines
        assert pipeline.pipeline_id == winner.pipeline_id
    cluster.unload(winner.pipeline_id)
    wait_empty(cluster)


# -- plans


def test_a_plan_is_printed_and_loads_as_it_was_changed(cluster: Cluster) -> None:
    on = ["--on", "node-1", "--on", "node-0"]
    printed = cluster.tandem("plan", "tandem-demo", *on)
    assert printed.returncode == 0, printed.stderr
    assert "why:" in printed.stdout
    assert all(word in printed.stdout for word in ("node-0", "node-1", "output head"))

    plan = json.loads(cluster.tandem("plan", "tandem-demo", *on, "--json").stdout)
    first, second = plan["stages"]
    assert [*first["node_ids"], *second["node_ids"]] == ids(cluster, 1, 0)
    first["segments"][0]["end_layer"] = second["segments"][0]["first_layer"] = 1
    loaded = cluster.tandem("load", "tandem-demo", "--plan", "-", stdin=json.dumps(plan))
    assert loaded.returncode == 0, loaded.stderr
    (pipeline,) = cluster.topology().pipelines
    assert [(stage.node_ids[0], stage.segments[0].end_layer) for stage in pipeline.stages] == list(
        zip(ids(cluster, 1, 0), [1, 6], strict=True)
    )
    assert text(cluster, "tandem-demo-qwen", 1)
    again = cluster.load_events("tandem-demo")
    assert [event.WhichOneof("event") for event in again] == ["ready"]
    assert again[0].ready.pipeline_id == pipeline.pipeline_id


def test_a_plan_with_a_gap_is_refused(cluster: Cluster) -> None:
    plan = json.loads(cluster.tandem("plan", "tandem-demo", "--on", "node-0", "--on", "node-1", "--json").stdout)
    plan["stages"][1]["segments"][0]["first_layer"] += 1
    refused = cluster.tandem("load", "tandem-demo", "--plan", "-", stdin=json.dumps(plan))
    assert refused.returncode == 1
    assert "do not cover the 6 layers" in refused.stderr


# -- what is on disk


def test_each_stage_serves_with_every_other_file_deleted(cluster: Cluster) -> None:
    """The node that is asked has all files, takes no part, and tells the others what the files hold."""
    cluster.load_events("sharded", node=2, stage_count=1)
    expected = text(cluster, "sharded", 2)
    cluster.unload("sharded", node=2)
    plan = halved(cluster, "sharded", 6, node=2)
    index = json.loads((folder_of(cluster, 2) / "sharded" / "model.safetensors.index.json").read_text())["weight_map"]
    for node, stage in enumerate(plan.stages):
        layers = range(stage.segments[0].first_layer, stage.segments[0].end_layer)
        needed = {
            file
            for name, file in index.items()
            if (int(name.split(".")[2]) in layers if ".layers." in name else node == 0)
        }
        others = {path.name for path in (folder_of(cluster, node) / "sharded").glob("*.safetensors")} - needed
        assert others
        for name in others:
            (folder_of(cluster, node) / "sharded" / name).unlink()
    try:
        cluster.load_events(node=2, plan=plan)
        assert text(cluster, "sharded", 0) == expected
        # Nor does anybody need the other files to load a stage again.
        lost = cluster.nodes[1]
        lost.kill()
        cluster.restart(lost)
        until(lambda: cluster.shards(1) and text(cluster, "sharded", 0) == expected, 30)
    finally:
        for node in range(2):
            shutil.copytree(folder_of(cluster, 2) / "sharded", folder_of(cluster, node) / "sharded", dirs_exist_ok=True)


def test_an_architecture_that_cannot_be_cut_runs_on_one_node_and_is_refused_by_name_for_two(cluster: Cluster) -> None:
    status, words = refusal(cluster, "looped", stage_count=2)
    assert status is grpc.StatusCode.FAILED_PRECONDITION
    assert "iquestloopcoder" in words
    pipeline = cluster.load("looped", 1)
    assert len(pipeline.stages) == 1
    assert text(cluster, "looped", 0)


def test_an_unknown_name_is_answered_with_near_ones(cluster: Cluster) -> None:
    status, words = refusal(cluster, "tandem-dem")
    assert status is grpc.StatusCode.NOT_FOUND
    assert "near: tandem-demo" in words
    done = cluster.tandem("load", "shraded")
    assert done.returncode == 1
    assert "near: sharded" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_file_is_named_with_its_node(cluster: Cluster) -> None:
    index = json.loads((folder_of(cluster, 1) / "damaged" / "model.safetensors.index.json").read_text())["weight_map"]
    path = folder_of(cluster, 1) / "damaged" / index["model.layers.5.mlp.down_proj.weight"]
    path.write_bytes(path.read_bytes()[:-1000])
    status, words = refusal(cluster, "damaged", node_ids=ids(cluster, 0, 1))
    assert status is grpc.StatusCode.DATA_LOSS
    assert words.startswith("node-1: ")
    assert str(path) in words
    wait_empty(cluster)


# -- through the gateway


def ask(cluster: Cluster, model: str) -> requests.Response:
    body = {"model": model, "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    return requests.post(f"{cluster.base}/v1/completions", json=body, timeout=60)


def test_a_request_for_what_is_on_disk_loads_it_beside_what_is_loaded(cluster: Cluster) -> None:
    cluster.load("tandem-demo", 2)
    begin = time.monotonic()
    answer = ask(cluster, "sharded")
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert time.monotonic() - begin < 30
    assert {pipeline.model.model_id for pipeline in cluster.topology().pipelines} == {"tandem-demo", "sharded"}
    assert ask(cluster, "tandem-demo-qwen").status_code == 200


def test_an_unknown_model_is_a_404_with_the_list(cluster: Cluster) -> None:
    answer = ask(cluster, "owner/nothing")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert all(name in error["message"] for name in ("tandem-demo-qwen", "tandem-demo-llama", "sharded", "looped"))
    listed = {
        each["id"]: each["loaded"] for each in requests.get(f"{cluster.base}/v1/models", timeout=5).json()["data"]
    }
    assert listed["sharded"] is False
