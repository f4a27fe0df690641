"""Loading a stage costs its own bytes and little more, seen from outside the process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
CONFIG = {
    "model_type": "llama", "vocab_size": 8192, "hidden_size": 1024, "num_hidden_layers": 8, "intermediate_size": 2816,
    "num_attention_heads": 8, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
}  # fmt: skip
MIB = 2**20

MAKE = """
import json, pathlib, sys
import make_model
make_model.make_model(json.loads(sys.argv[2]), pathlib.Path(sys.argv[1]), shards=5, dtype="float16")
"""
MEASURE = """
import json, pathlib, resource, sys
import mlx_lm.utils, psutil
from node.engine.headers import read_headers
from node.engine.loading import load_shard

def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

folder, ranges, index, dtype = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
headers = read_headers(folder)
if pathlib.Path("/proc/self/clear_refs").exists():
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
before = psutil.Process().memory_info().rss
part = load_shard(folder, headers, [tuple(each) for each in ranges], index, cast_to=dtype, kv_budget_bytes=2**24)
print(json.dumps({"rise": peak() - before, "own": part.weight_bytes}))
"""


def python(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=SCRIPTS, timeout=300).stdout


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    python(MAKE, str(folder), json.dumps(CONFIG))
    return folder


@pytest.mark.parametrize(
    ("ranges", "index", "dtype", "at_least"),
    [
        ([(0, 8)], 0, "", 220 * MIB),
        ([(0, 4), (4, 8)], 0, "", 130 * MIB),
        ([(0, 4), (4, 8)], 1, "", 90 * MIB),
        ([(0, 2), (2, 4), (4, 8)], 1, "float32", 90 * MIB),
    ],
)
def test_the_peak_rises_by_the_stages_own_bytes(
    large: Path, ranges: list[tuple[int, int]], index: int, dtype: str, at_least: int
) -> None:
    measured: dict[str, Any] = json.loads(python(MEASURE, str(large), json.dumps(ranges), str(index), dtype))
    assert measured["own"] >= at_least
    assert measured["rise"] <= 1.15 * measured["own"] + 64 * MIB
    assert measured["rise"] >= 0.9 * measured["own"]  # it was measured at all
