"""What comes from the hub: each node fetches what its stage needs, takes up what was cut, and checks what arrived."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hub_server import HubServer, Repo
from loading_cluster import FILES, LAYERS, SHARDS, clear, halved, ids, refusal, text, three_nodes, wait_empty
from running_cluster import Cluster

from tandem.v1 import model_pb2
from tandem.v1.model_pb2_grpc import ModelServiceStub


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
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, models: Path, hub: Hub) -> Iterator[Cluster]:
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": ""}
    with three_nodes(tmp_path_factory.mktemp("downloads"), models, environment) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def empty(cluster: Cluster) -> Iterator[None]:
    """No test leaves anything loaded or reserved, however it ended."""
    yield
    clear(cluster)


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


def test_the_commit_that_is_asked_for_is_planned_and_no_other(cluster: Cluster, hub: Hub, models: Path) -> None:
    hub.add("maker/commits", models / "sharded")
    commit = hub.repos["maker/commits"].commit
    planned = cluster.tandem("plan", "maker/commits", "--revision", commit)
    assert planned.returncode == 0 and commit[:12] in planned.stdout, planned.stderr
    for command in ("plan", "load"):
        refused = cluster.tandem(command, "maker/commits", "--revision", "f" * 40)
        assert refused.returncode == 1 and "has no such revision" in refused.stderr, refused.stderr
