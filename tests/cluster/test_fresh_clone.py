"""What a newcomer types: ``git clone``, ``make run``, the printed request, Ctrl-C; nothing but the package index."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 5
"""From the command to a cluster that answers, installation included."""
ONLY_FOR_TESTS_AND_TRAINING = ("pytest", "openai", "hypothesis", "grpc_tools", "torch")


def read_until(process: subprocess.Popen[str], line_start: str, deadline: float) -> str:
    """What the process prints up to the line that begins so; fails when it ends or the time is over before."""
    assert process.stdout is not None
    text = ""
    while not re.search(rf"^{line_start}.*\n", text, re.MULTILINE):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        more = os.read(process.stdout.fileno(), 1 << 16).decode() if ready else ""
        assert more, f"{'it ended' if ready else 'the time is over'}: {text}"
        text += more
    return text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("these files are no clone of a repository")
    folder = tmp_path / "tandem"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True, timeout=120)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a person with nothing set up: no settings, no active virtual environment."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("TANDEM_", "VIRTUAL_ENV", "COV", "MAKE", "MFLAGS"))
    }
    return kept | {"XDG_CONFIG_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}


@pytest.fixture
def started(clone: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = subprocess.Popen(
        ["make", "run", "NODES=2", f"PORT={port}"],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, port
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_two_commands_and_a_copied_line(
    started: tuple[subprocess.Popen[str], int], clone: Path, environment: dict[str, str]
) -> None:
    process, port = started
    begin = time.monotonic()
    text = read_until(process, "Ctrl-C", begin + 60 * MINUTES)
    assert f"gateway  http://127.0.0.1:{port}/v1" in text
    assert len(re.findall(r"^node-\d +\S+ +layer", text, re.MULTILINE)) == 2

    (curl,) = re.findall(r"^curl .*$", text, re.MULTILINE)
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=120)
    (call,) = json.loads(done.stdout)["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}

    python = clone / ".venv" / "bin" / "python"
    look = f"import importlib.util as u; print([n for n in {ONLY_FOR_TESTS_AND_TRAINING} if u.find_spec(n)])"
    found = subprocess.run([python, "-c", look], capture_output=True, text=True, check=True, timeout=60, cwd="/")
    assert found.stdout.strip() == "[]"

    family = psutil.Process(process.pid).children(recursive=True)
    ending = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=1)
    assert alive == []
    assert time.monotonic() - ending < 5
    assert process.stdout is not None
    assert "Traceback" not in process.stdout.read()
    changed = ["git", "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(changed, cwd=clone, capture_output=True, text=True, check=True).stdout == ""


def test_a_python_that_is_too_old_is_one_line(tmp_path: Path, environment: dict[str, str]) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "run", f"PYTHON={old}"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    said, *make = done.stderr.splitlines()
    assert said.startswith("tandem: needs Python 3.11 or newer and found none")
    assert all(line.startswith("make: ***") for line in make)
    assert not (tmp_path / ".venv").exists()
