"""The fuzzing script, as a process: a little here, as much as it does by itself among the slow tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz_parsers.py"


@pytest.mark.parametrize(("inputs", "seed"), [(3_000, 1), pytest.param(100_000, 2, marks=pytest.mark.slow)])
def test_nothing_breaks(inputs: int, seed: int) -> None:
    command = [sys.executable, str(SCRIPT), "--inputs", str(inputs), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2_400)
    broken = re.search(r"(\d+) broken$", done.stdout.strip())
    assert broken is not None and int(broken[1]) == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # It would find nothing if next to nothing came out.
    said = re.search(r"(\d+) calls and (\d+) sown words", done.stdout)
    assert said is not None and int(said[1]) > inputs and int(said[2]) > 2 * inputs
