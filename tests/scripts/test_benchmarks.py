"""Every benchmark still runs: the least that it can be asked for, with figures in its JSON.

Which figures come out is for whoever runs it on a calm machine: a target that is missed here is no failure.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAST = {
    "bench_gateway.py": ("--pairs", "1"),
    "bench_hop.py": ("--rounds", "1", "--only", "demo"),
    "bench_lanes.py": ("--rounds", "1"),
    "bench_link.py": ("--pairs", "1"),
    "bench_parsers.py": ("--tokens", "500", "--most", "5000", "--formats", "hermes,qwen3_coder"),
    "bench_single.py": ("--pairs", "1", "--only", "2 ms"),
}


def figures(value: object) -> list[float]:
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in figures(item)]
    if isinstance(value, list):
        return [number for item in value for number in figures(item)]
    return [float(value)] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_every_benchmark_is_tried() -> None:
    apart = {"bench_grammar.py"}  # two commands, tried below
    assert {path.name for path in (ROOT / "scripts").glob("bench_*.py")} == LEAST.keys() | apart


@pytest.mark.slow
@pytest.mark.parametrize("script", LEAST)
def test_it_runs_and_gives_figures(script: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "scripts" / script), *LEAST[script], "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    numbers = figures(json.loads(out.read_text()))
    assert len(numbers) >= 3
    assert all(map(math.isfinite, numbers))


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("masks", "--tokens", "200"), ("rates", "--pairs", "1", "--length", "25")], ids=["masks", "rates"]
)
def test_grammars_are_measured(command: tuple[str, ...]) -> None:
    run = [sys.executable, str(ROOT / "scripts" / "bench_grammar.py"), *command]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert re.search(r"^\d+ missed$", done.stdout, re.MULTILINE)
