"""What the tests of loading share: tiny models, three nodes with a folder of models each, and ways to ask them."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_cluster import ROOT, Cluster, running, until

from tandem.v1 import generation_pb2, model_pb2, types_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub
from tandem.v1.model_pb2_grpc import ModelServiceStub

MEMORY = 400_000_000
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


def make_models(folder: Path) -> None:
    """Tiny random models, in several files each."""
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


@contextmanager
def three_nodes(folder: Path, models: Path, environment: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Three nodes, each with a folder of models of its own and an empty cache of the hub; and a gateway."""
    with running(folder, 0, gateway=False) as cluster:
        for number in range(3):
            own = folder / f"models-{number}"
            shutil.copytree(models, own, ignore=shutil.ignore_patterns("large"))
            cluster.add_node("--memory", str(MEMORY), "--model-dir", str(own), environment=environment)
        cluster.wait_members(3)
        cluster.add_gateway()
        yield cluster


def clear(cluster: Cluster) -> None:
    """Unloads everything; fails where something stays loaded or reserved."""
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
