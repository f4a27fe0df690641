"""What loading costs a node daemon, as the system counts it: the bytes of its own stage and little more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running_cluster import ROOT, Daemon, running

MAKE = """
import json, pathlib, sys
import make_model
make_model.make_model(
    json.loads(sys.argv[2]), pathlib.Path(sys.argv[1]), shards=4, dtype="float16", tokenizer=make_model.DEMO
)
"""
CONFIG = {
    "model_type": "llama", "vocab_size": 8192, "hidden_size": 1024, "num_hidden_layers": 8, "intermediate_size": 2816,
    "num_attention_heads": 8, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    "max_position_embeddings": 512,
}  # fmt: skip
MB = 10**6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one of 240 MB."""
    folder = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-c", MAKE, str(folder / "large"), json.dumps(CONFIG)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT / "scripts", timeout=300)
    return folder


def forget_peak(node: Daemon) -> None:
    Path(f"/proc/{node.process.pid}/clear_refs").write_text("5")


def peak(node: Daemon) -> int:
    """The most bytes that were resident since ``forget_peak``."""
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of another process")
def test_loading_raises_the_peak_of_each_node_by_its_own_stage(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Daemons that have loaded nothing before: what they import for it counts, too."""
    with running(tmp_path, 2, "--model-dir", str(folder), gateway=False) as cluster:
        before = []
        for node in cluster.nodes:
            forget_peak(node)
            before.append(node.memory())
        cluster.load_events("large", stage_count=2)
        rises = [peak(node) - bytes_ for node, bytes_ in zip(cluster.nodes, before, strict=True)]
        own = [shard.weight_bytes for node in range(2) for shard in cluster.shards(node)]
    with capsys.disabled():
        print("".join(f"\n{rise / MB:.0f} MB for {bytes_ / MB:.0f}" for rise, bytes_ in zip(rises, own, strict=True)))
    assert min(own) > 150 * MB
    for rise, bytes_ in zip(rises, own, strict=True):
        assert 0.9 * bytes_ <= rise <= 1.15 * bytes_ + 64 * MB
