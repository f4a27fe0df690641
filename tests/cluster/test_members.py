"""Who is in the cluster, as ``tandem status`` and ``GetTopology`` tell it: nodes that come, stop, die, freeze, hang."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running_cluster import ROOT, Cluster, Daemon, running, until

from tandem.v1 import generation_pb2 as pb
from tandem.v1 import membership_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub

ALIVE = membership_pb2.NODE_STATE_ALIVE
STUCK = membership_pb2.NODE_STATE_STUCK
LOST = membership_pb2.NODE_STATE_LOST
HANGING_NODE = str(Path(__file__).with_name("hanging_node.py"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with the embedded model over both; the MLX thread of the second can be made to hang."""
    with running(tmp_path_factory.mktemp("members"), 1, gateway=False) as cluster:
        cluster.new_node(entry=[HANGING_NODE]).start()
        cluster.load("tandem-demo")
        yield cluster


@pytest.fixture
def third(cluster: Cluster) -> Iterator[Daemon]:
    """One more node, which the others know; gone afterwards."""
    node = cluster.new_node()
    node.start()
    try:
        until(lambda: all(state_of(cluster, node, by) == ALIVE for by in (0, 1)), 10)
        yield node
    finally:
        cluster.nodes.remove(node)
        if node.process.poll() is None:
            node.stop()


def state_of(cluster: Cluster, node: Daemon, by: int = 0) -> int | None:
    """A node's state in the view of another; None when it is not in sight."""
    states = {each.node_id: int(each.state) for each in cluster.topology(by).nodes}
    return states.get(node.node_id)


def reason_of(cluster: Cluster, node: Daemon, by: int = 0) -> str:
    return {each.node_id: each.state_reason for each in cluster.topology(by).nodes}[node.node_id]


def status(cluster: Cluster, by: int = 0) -> dict[str, dict[str, Any]]:
    """The nodes that ``tandem status --json`` shows, by name."""
    done = cluster.tandem("status", "--json", node=by)
    assert done.returncode == 0, done.stderr
    return {node["name"]: node for node in json.loads(done.stdout)["nodes"]}


def shown_after(cluster: Cluster, condition: Callable[[dict[str, dict[str, Any]]], bool]) -> float:
    """Runs ``tandem status --json`` until it shows what is wanted: seconds from now until the run that shows it began.
    What comes on top is the time that the command itself takes."""
    begin = time.monotonic()
    while True:
        started = time.monotonic() - begin
        shown = status(cluster)
        if condition(shown):
            return started
        assert started < 20, shown


def signalled(node: Daemon, number: signal.Signals) -> float:
    """Ends a node by a signal, in good order; the seconds that it took."""
    before, begin = len(node.log_text()), time.monotonic()
    node.process.send_signal(number)
    assert node.process.wait(10) == 0, node.log_text()
    took = time.monotonic() - begin
    assert "Traceback" not in node.log_text()[before:]
    return took


def test_a_node_that_announces_itself_and_stops_is_seen_within_two_seconds(cluster: Cluster) -> None:
    node = cluster.new_node()
    try:
        node.start()
        assert shown_after(cluster, lambda shown: shown.get(node.name, {}).get("state") == "NODE_STATE_ALIVE") < 2
        until(lambda: all(state_of(cluster, node, by) == ALIVE for by in (0, 1)), 2)
        shown = status(cluster)[node.name]
        assert (shown["state"], shown["node_id"]) == ("NODE_STATE_ALIVE", node.node_id)
        assert int(shown["capabilities"]["free_memory_bytes"]) > 0

        node.process.terminate()
        assert shown_after(cluster, lambda shown: node.name not in shown) < 2
        until(lambda: all(state_of(cluster, node, by) is None for by in (0, 1)), 2)
    finally:
        cluster.nodes.remove(node)
        assert node.process.wait(10) == 0
        node.stop()


def test_a_node_that_is_killed_is_lost_within_two_seconds(cluster: Cluster, third: Daemon) -> None:
    third.kill()
    assert shown_after(cluster, lambda shown: shown[third.name]["state"] == "NODE_STATE_LOST") < 2
    until(lambda: all(state_of(cluster, third, by) == LOST for by in (0, 1)), 2)
    shown = status(cluster)[third.name]
    assert shown["state"] == "NODE_STATE_LOST"
    assert shown["state_reason"].startswith("lost since")


def test_a_node_that_freezes_is_lost_within_five_seconds_and_comes_back(cluster: Cluster, third: Daemon) -> None:
    before = {node.node_id: node.incarnation for node in cluster.topology().nodes}
    third.pause()
    try:
        assert shown_after(cluster, lambda shown: shown[third.name]["state"] == "NODE_STATE_LOST") < 5
        until(lambda: all(state_of(cluster, third, by) == LOST for by in (0, 1)), 5)
    finally:
        third.resume()
    until(lambda: all(state_of(cluster, third, by) == ALIVE for by in (0, 1)), 15)
    after = {node.node_id: node.incarnation for node in cluster.topology().nodes}
    assert after[third.node_id] > before[third.node_id]


def test_a_node_whose_mlx_thread_hangs_is_stuck_and_what_it_computes_fails(cluster: Cluster) -> None:
    node = cluster.nodes[1]
    request = pb.GenerateRequest(model="tandem-demo-qwen", text="Once upon a time", max_tokens=4000, ignore_eos=True)
    failed, begin = None, 0.0
    with cluster.channel() as channel:
        tokens = 0
        for response in GenerationServiceStub(channel).Generate(request, timeout=60):
            tokens += sum(len(event.token_ids) for event in response.events)
            if tokens >= 5 and not begin:
                begin = time.monotonic()
                node.process.send_signal(signal.SIGUSR1)
            failed = next((event.failed for event in response.events if event.HasField("failed")), failed)
    assert failed is not None
    assert failed.code == "stage_lost"
    assert time.monotonic() - begin < 10
    until(lambda: all(state_of(cluster, node, by) == STUCK for by in (0, 1)), 6)
    assert "none finished" in reason_of(cluster, node)
    assert status(cluster)[node.name]["state"] == "NODE_STATE_STUCK"
    # What it holds it says nevertheless: that is when somebody asks.
    (shard,) = cluster.shards(1)
    assert shard.pending_steps >= 1

    node.process.send_signal(signal.SIGUSR2)
    until(lambda: state_of(cluster, node) == ALIVE, 5)
    until(lambda: cluster.topology().pipelines[0].state == membership_pb2.PIPELINE_STATE_READY, 10)


def test_of_two_nodes_with_one_id_the_second_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    first = cluster.nodes[1]
    shutil.copytree(cluster.folder / first.name, tmp_path / "copy", ignore=shutil.ignore_patterns("lock"))
    command = [sys.executable, "-m", "tandem.cli", "node", "--name", "impostor", "--listen", "127.0.0.1:0", "--no-mdns"]
    command += ["--cluster", cluster.name, "--data-dir", str(tmp_path / "copy"), "--peer", cluster.nodes[0].address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tandem: ")
    assert "in use" in last
    assert "Traceback" not in done.stderr
    assert first.process.poll() is None
    assert state_of(cluster, first) == ALIVE
    assert "impostor" not in status(cluster)


def test_a_data_dir_serves_one_daemon_at_a_time(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "tandem.cli", "node", "--listen", "127.0.0.1:0", "--no-mdns"]
    command += ["--data-dir", str(cluster.folder / cluster.nodes[0].name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.returncode == 1
    assert f"in use by another node daemon (process {cluster.nodes[0].process.pid})" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_clusters_on_one_machine_never_merge(tmp_path: Path) -> None:
    """They hear each other by mDNS, and one is even told the other's address."""
    ours, theirs = Cluster(tmp_path / "ours"), Cluster(tmp_path / "theirs")
    try:
        for cluster in (ours, theirs):
            cluster.folder.mkdir()
        ours.add_node(mdns=True)
        stranger = theirs.add_node("--peer", ours.nodes[0].address, mdns=True)
        ours.add_node(mdns=True)
        ours.wait_members(2, 10)
        until(lambda: f"this is cluster '{ours.name}', not '{theirs.name}'" in stranger.log_text(), 5)
        for by in (0, 1):
            assert {node.node_id for node in ours.topology(by).nodes} == {node.node_id for node in ours.nodes}
        assert [node.node_id for node in theirs.topology().nodes] == [stranger.node_id]
        ours.stop()
        theirs.stop()
    finally:
        ours.kill()
        theirs.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_node_that_works_within_five_seconds(cluster: Cluster, number: signal.Signals) -> None:
    """With a model in memory, a link on each side and a generation under way."""
    node = cluster.nodes[1]
    request = pb.GenerateRequest(model="tandem-demo-qwen", text="Once upon a time", max_tokens=4000, ignore_eos=True)
    failed = None
    with cluster.channel() as channel:
        for response in GenerationServiceStub(channel).Generate(request, timeout=60):
            if any(event.token_ids for event in response.events) and node.process.poll() is None:
                assert signalled(node, number) < 5
            failed = next((event.failed for event in response.events if event.HasField("failed")), failed)
    assert failed is not None
    assert failed.code == "stage_lost"
    until(lambda: state_of(cluster, node) is None, 2)
    node.kill()
    cluster.restart(node)
    until(lambda: cluster.topology().pipelines[0].state == membership_pb2.PIPELINE_STATE_READY, 40)


def test_a_signal_ends_a_node_that_hangs(cluster: Cluster) -> None:
    node = cluster.nodes[1]
    node.process.send_signal(signal.SIGUSR1)
    until(lambda: state_of(cluster, node) == STUCK, 8)
    assert signalled(node, signal.SIGTERM) < 5
    node.kill()


def test_a_signal_ends_the_head(cluster: Cluster) -> None:
    assert signalled(cluster.nodes[0], signal.SIGINT) < 5
