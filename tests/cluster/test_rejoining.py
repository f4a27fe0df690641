"""A head that was started again is asked for its model before it has met the others: the model is not loaded twice."""

from __future__ import annotations

from pathlib import Path

from running_cluster import Cluster, Daemon, running, until


def start_again(node: Daemon) -> None:
    """On the address that it had, told nothing of the others: they have to find it."""
    node.arguments[node.arguments.index("--listen") + 1] = node.address
    assert "--peer" not in node.arguments
    node.start()


def pipelines(cluster: Cluster) -> list[set[str]]:
    return [{each.pipeline_id for each in cluster.topology(node).pipelines} for node in range(2)]


def test_a_load_at_a_head_that_is_back_takes_its_pipeline_up_again(tmp_path: Path) -> None:
    with running(tmp_path, 2, model="tandem-demo", gateway=False) as cluster:
        head = cluster.nodes[0]
        (before,) = cluster.topology().pipelines
        assert [stage.node_ids[0] for stage in before.stages] == [node.node_id for node in cluster.nodes]
        head.kill()
        start_again(head)
        events = cluster.load_events("tandem-demo")
        assert [event.WhichOneof("event") for event in events] == ["ready"]
        assert events[0].ready.pipeline_id == before.pipeline_id
        assert events[0].ready.epoch > before.epoch
        until(lambda: pipelines(cluster) == [{before.pipeline_id}] * 2, 5)
        assert [len(cluster.shards(node)) for node in range(2)] == [1, 1]


def test_a_load_at_a_head_that_is_back_goes_on_when_the_others_are_gone(tmp_path: Path) -> None:
    with running(tmp_path, 2, model="tandem-demo", gateway=False) as cluster:
        head, other = cluster.nodes
        (before,) = cluster.topology().pipelines
        head.kill()
        other.kill()
        start_again(head)
        ready = cluster.load_events("tandem-demo")[-1].ready
        assert ready.pipeline_id != before.pipeline_id
        assert [stage.node_ids[0] for stage in ready.stages] == [head.node_id]
