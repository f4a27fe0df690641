"""The fuzzing script, as a process: a little here, as much as it does by itself among the slow tests."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_parsers.py"


@pytest.mark.parametrize(("inputs", "seed"), [(3_000, 1), pytest.param(30_000, 2, marks=pytest.mark.slow)])
def test_nothing_breaks(inputs: int, seed: int) -> None:
    command = [sys.executable, str(SCRIPT), "--inputs", str(inputs), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
