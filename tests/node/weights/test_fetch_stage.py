"""From the hub into memory: two nodes fetch and load a stage each, with only the files that hold its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from hub_server import MODEL, HubServer, Repo

from node.cluster.catalog import DEMO_FOLDER, Catalog
from node.cluster.costs import LinkFacts, ModelCosts, NodeFacts
from node.cluster.planner import plan
from node.cluster.weights import Weights
from node.engine.checkpoint import Checkpoint

N_FILES = 5


@pytest.fixture
def sharded(tmp_path: Path) -> Iterator[dict[str, bytes]]:
    """The embedded model in several files, in the order of its tensors."""
    tensors = mx.load(str(DEMO_FOLDER / "model.safetensors"))
    order = sorted(tensors, key=lambda name: [int(part) if part.isdigit() else -1 for part in name.split(".")])
    files = {name: (DEMO_FOLDER / name).read_bytes() for name in ("config.json", "tokenizer.json")}
    for i in range(N_FILES):
        path = tmp_path / f"model-{i + 1:05}-of-{N_FILES:05}.safetensors"
        part = order[len(order) * i // N_FILES : len(order) * (i + 1) // N_FILES]
        mx.save_safetensors(str(path), {name: tensors[name] for name in part})
        files[path.name] = path.read_bytes()
        path.unlink()
    yield files
    mx.clear_cache()


async def test_two_nodes_fetch_and_load_their_own_stage(
    server: HubServer, tmp_path: Path, sharded: dict[str, bytes]
) -> None:
    server.repos[MODEL] = Repo(sharded)
    whole = Checkpoint(DEMO_FOLDER)
    stages = []
    for node in ("a", "b"):
        cache = tmp_path / node
        weights = Weights(Catalog(hub_cache=cache), cache, endpoint=server.url)
        model = await weights.prepare(MODEL)
        checkpoint = Checkpoint(model.folder, headers=model.headers())
        sizes = checkpoint.sizes()
        assert sizes == whole.sizes()
        costs = ModelCosts(
            model_id=MODEL,
            model_type=model.model_type,
            layer_bytes=sizes.layers,
            head_bytes=sizes.head,
            caches=sizes.caches,
            wire_bytes=[checkpoint.plan.wire_bytes(cut + 1) for cut in range(checkpoint.n_layers)],
        )
        nodes = [NodeFacts(f"id-{name}", name, 10**9, 10**11) for name in ("a", "b")]
        link = {("id-a", "id-b"): LinkFacts(0.0001, 1e9)}
        placement = plan(costs, nodes, context_tokens=4096, links=link, admitted=True, pinned=["a", "b"])
        mine = next(stage for stage in placement.stages if stage.node_id == f"id-{node}")
        files = checkpoint.needed_files(mine.first, mine.end)
        assert 0 < len(files) < N_FILES
        await weights.fetch(model, files)
        assert sorted(path.name for path in model.folder.glob("*.safetensors")) == files
        stages.append(checkpoint.load(mine.first, mine.end))
        assert stages[-1].nbytes == placement.weight_bytes[mine.node_id]
    assert sum(stage.nbytes for stage in stages) == whole.sizes().total
