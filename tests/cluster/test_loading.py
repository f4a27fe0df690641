"""Models come and go: plans, progress, memory, partial files, downloads, and what is said when something is wrong."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from hub_server import HubServer, Repo
from running_cluster import ROOT, Cluster, running, until

from tandem.v1 import generation_pb2, membership_pb2, model_pb2, types_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub
from tandem.v1.model_pb2_grpc import ModelServiceStub

MEMORY = 400_000_000
CONTEXT = 50_000
"""Tokens of the embedded model whose caches take more than half of that on one of two nodes."""
FILES = 6
SHARDS = 4
"""Weight files of the small models, and of the larger one."""
LAYERS = 8
"""Of the larger one."""
LOOPED = {
    "model_type": "iquestloopcoder",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "vocab_size": 2048,
    "max_position_embeddings": 4096,
    "loop_window_size": 8,
}
"""The one architecture of mlx-lm that cannot be cut: it calls its layers in a way of its own."""


class Hub(HubServer):
    """The hub of these tests, in a thread. Several nodes fetch from it."""

    def __enter__(self) -> Hub:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)
        return self

    def __exit__(self, *error: object) -> None:
        self.go_on()
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self, *, at: int) -> None:
        """Lets every large file wait at that byte."""
        self.stall_at = at
        self.stalled.clear()

    def go_on(self) -> None:
        """Ends the waiting."""
        self.stall_at = None
        self._loop.call_soon_threadsafe(self.stalled.set)

    def add(self, model: str, folder: Path) -> int:
        """Offers a folder as a repository, with a commit of its own; the bytes of its weights."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.repos[model] = Repo(files, commit=f"{len(self.repos):040x}")
        return sum(len(data) for name, data in self.repos[model].files.items() if name.endswith(".safetensors"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny random models, in several files each."""
    folder = tmp_path_factory.mktemp("models")
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        maker = importlib.import_module("make_model")
    finally:
        sys.path.pop(0)
    tiny = maker.configurations()
    maker.make_model(tiny["qwen3"], folder / "sharded", seed=1, shards=FILES, tokenizer=maker.DEMO)
    maker.make_model(tiny["llama"], folder / "damaged", seed=2, shards=FILES, tokenizer=maker.DEMO)
    large = tiny["llama"] | {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": LAYERS}
    maker.make_model(large, folder / "large", seed=4, shards=SHARDS, dtype="float16", tokenizer=maker.DEMO)
    shutil.copytree(maker.DEMO, folder / "copy", ignore=shutil.ignore_patterns("tandem.json"))
    maker.make_model(LOOPED, folder / "looped", seed=3, tokenizer=maker.DEMO)
    return folder


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, models: Path, hub: Hub) -> Iterator[Cluster]:
    """Three nodes, each with a folder of models of its own and an empty cache of the hub; and a gateway."""
    folder = tmp_path_factory.mktemp("loading")
    with running(folder, 0, gateway=False) as cluster:
        for number in range(3):
            own = folder / f"models-{number}"
            shutil.copytree(models, own, ignore=shutil.ignore_patterns("large"))
            cluster.add_node(
                "--memory", str(MEMORY), "--model-dir", str(own), environment={"HF_ENDPOINT": hub.url, "HF_TOKEN": ""}
            )
        cluster.wait_members(3)
        cluster.add_gateway()
        yield cluster


@pytest.fixture(autouse=True)
def empty(cluster: Cluster) -> Iterator[None]:
    """No test leaves anything loaded or reserved, however it ended."""
    yield
    for pipeline in cluster.topology().pipelines:
        cluster.unload(pipeline.pipeline_id)
    wait_empty(cluster)


def wait_empty(cluster: Cluster) -> None:
    """Waits until no node holds anything and all memory is free, and every node knows."""

    def is_empty() -> bool:
        return (
            all(cluster.shards(node) == [] for node in range(3))
            and all(free(cluster, node) == [MEMORY] * 3 for node in range(3))
            and all(not cluster.topology(node).pipelines for node in range(3))
        )

    until(is_empty, 10)


def free(cluster: Cluster, node: int = 0) -> list[int]:
    """Free memory of every node in the order of the cluster's nodes, as one of them sees it."""
    seen = {each.node_id: each.capabilities.free_memory_bytes for each in cluster.topology(node).nodes}
    return [seen[each.node_id] for each in cluster.nodes]


def folder_of(cluster: Cluster, node: int) -> Path:
    return cluster.folder / f"models-{node}"


def ids(cluster: Cluster, *nodes: int) -> list[str]:
    return [cluster.nodes[node].node_id for node in nodes]


def halved(cluster: Cluster, model: str, layers: int, *, node: int = 0) -> model_pb2.Plan:
    """A plan over the first two nodes with half of the layers on each, however fast they were found to be."""
    request = model_pb2.PlanModelRequest(model=types_pb2.ModelRef(model_id=model), node_ids=ids(cluster, 0, 1))
    with cluster.channel(node) as channel:
        plan = ModelServiceStub(channel).PlanModel(request, timeout=20).plan
    plan.stages[0].segments[0].end_layer = plan.stages[1].segments[0].first_layer = layers // 2
    return plan


def refusal(cluster: Cluster, model: str, *, node: int = 0, **wish: Any) -> tuple[grpc.StatusCode, str]:
    """The status and the words with which a load fails."""
    with pytest.raises(grpc.RpcError) as caught:
        cluster.load_events(model, node=node, **wish)
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), caught.value.details() or ""


def text(cluster: Cluster, model: str, node: int) -> str:
    """What the head, a node, says after a fixed beginning; greedy."""
    request = generation_pb2.GenerateRequest(
        model=model,
        text="Once upon a time",
        max_tokens=12,
        ignore_eos=True,
        sampling=generation_pb2.SamplingParams(temperature=0),
    )
    out = ""
    with cluster.channel(node) as channel:
        for response in GenerationServiceStub(channel).Generate(request, timeout=30):
            for event in response.events:
                assert not event.HasField("failed"), event
                out += event.content
    return out


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


# -- what comes from the hub


def fetched(cluster: Cluster, node: int, model: str) -> set[str]:
    """The weight files of a model in a node's own cache."""
    home = cluster.folder / f"node-{node}-hub" / "hub" / f"models--{model.replace('/', '--')}"
    return {path.name for path in home.glob("snapshots/*/*.safetensors")}


def test_two_nodes_fetch_only_the_files_of_their_stages_and_tell_how_far_they_are(
    cluster: Cluster, hub: Hub, models: Path
) -> None:
    model = "owner/large"
    hub.add(model, models / "large")
    told: dict[str, model_pb2.NodeLoadProgress] = {}
    request = model_pb2.LoadModelRequest(plan=halved(cluster, model, LAYERS))
    hub.stall(at=2_000_000)
    with cluster.channel() as channel:
        for event in ModelServiceStub(channel).LoadModel(request, timeout=60):
            progress = event.progress
            if progress.phase == model_pb2.LOAD_PHASE_DOWNLOADING and 0 < progress.done_bytes < progress.total_bytes:
                told[progress.node_id] = progress
            if len(told) == 2:
                hub.go_on()
    assert event.HasField("ready")
    assert told.keys() == set(ids(cluster, 0, 1))
    mine = [fetched(cluster, node, model) for node in range(3)]
    assert mine[0] | mine[1] == {name for name in hub.repos[model].files if name.endswith(".safetensors")}
    assert mine[0] - mine[1]
    assert mine[1] - mine[0]
    assert mine[2] == set()
    assert text(cluster, model, 0)


def test_a_download_that_was_cut_is_taken_up_again(cluster: Cluster, hub: Hub, models: Path) -> None:
    model = "owner/cut-off"
    size = hub.add(model, models / "large")
    plan = halved(cluster, model, LAYERS)
    hub.stall(at=size // SHARDS * 2 // 5)
    hub.sent.clear()
    request = model_pb2.LoadModelRequest(plan=plan)
    with cluster.channel() as channel:
        call = ModelServiceStub(channel).LoadModel(request, timeout=60)
        with pytest.raises(grpc.RpcError):
            done = dict.fromkeys(ids(cluster, 0, 1), 0)
            moved = time.monotonic()
            for event in call:
                progress = event.progress
                if progress.done_bytes > done.get(progress.node_id, 0):
                    done[progress.node_id] = progress.done_bytes
                    moved = time.monotonic()
                elif min(done.values()) > 0 and time.monotonic() - moved > 1:
                    hub.allowance = 0
                    hub.go_on()
                    call.cancel()  # as a person does who sees that it does not get on
    first = hub.weight_bytes
    wait_empty(cluster)

    hub.allowance = None
    hub.sent.clear()
    cluster.load_events(plan=plan)
    sizes = {name: len(data) for name, data in hub.repos[model].files.items()}
    whole = sum(sizes[name] for node in range(2) for name in fetched(cluster, node, model))
    assert 0.35 * whole < first < 0.45 * whole
    assert hub.weight_bytes <= 0.65 * whole
    assert text(cluster, model, 0)


def test_a_fetch_that_ends_before_the_headers_are_known_is_no_obstacle(
    cluster: Cluster, hub: Hub, models: Path
) -> None:
    model = "owner/early-end"
    hub.add(model, models / "sharded")
    hub.allowance = 1000
    try:
        status, words = refusal(cluster, model)
    finally:
        hub.allowance = None
    assert status is grpc.StatusCode.UNAVAILABLE
    assert "safetensors" in words
    cluster.load(model, 2)
    assert text(cluster, model, 0)


def test_a_file_that_arrives_wrong_is_named_and_fetched_again(cluster: Cluster, hub: Hub, models: Path) -> None:
    model = "owner/wrong-hash"
    hub.add(model, models / "sharded")
    name = f"model-00003-of-{FILES:05}.safetensors"
    hub.corrupt.add(name)
    try:
        status, words = refusal(cluster, model, node_ids=ids(cluster, 0, 1))
    finally:
        hub.corrupt.clear()
    assert status is grpc.StatusCode.DATA_LOSS
    assert name in words
    wait_empty(cluster)
    cluster.load_events(model, node_ids=ids(cluster, 0, 1))
    assert text(cluster, model, 0)


def test_what_the_hub_does_not_have_is_answered_with_near_names(cluster: Cluster, hub: Hub, models: Path) -> None:
    hub.repos.clear()
    hub.add("owner/tiny-llama", models / "sharded")
    status, words = refusal(cluster, "owner/tiny-lama")
    assert status is grpc.StatusCode.NOT_FOUND
    assert "owner/tiny-llama" in words


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
