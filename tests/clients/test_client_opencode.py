"""opencode, a coding agent, works through two nodes: it reads one file and writes another."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from asking import QWEN
from client_environments import npm_folder, shared_client
from scripted_nodes import ScriptedCluster, call

pytestmark = pytest.mark.slow

SECRET = "The heron counts 4711 reeds."


def test_opencode_reads_one_file_and_writes_one(scripted: ScriptedCluster, tmp_path: Path) -> None:
    """Only the tokens are scripted, and each turn's only once the turn before has reached the prompt: what opencode
    read must be in it before anything is written, and what it said of the writing before the last words."""
    runner = shared_client("run-opencode.sh")
    binary = npm_folder("opencode-ai", "1.18.33") / "node_modules" / ".bin" / "opencode"
    folder = tmp_path / "work"
    folder.mkdir()
    note, copy = folder / "note.txt", folder / "copy.txt"
    note.write_text(f"{SECRET}\n")
    task = "Copy the text of note.txt to copy.txt."
    scripted.say(
        (task, call("read", filePath=str(note))),
        ([task, SECRET], call("write", filePath=str(copy), content=f'{SECRET}\n"Reeds", it says.\n')),
        ([task, SECRET, "Wrote file successfully"], "The text of note.txt is in copy.txt now."),
    )
    command = [str(runner), f"{scripted.base}/v1", QWEN, str(folder), task]
    environment = {**os.environ, "SLIM": "1", "OPENCODE_BIN": str(binary), "LIMIT": "480"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    printed = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, printed
    assert copy.read_text() == f'{SECRET}\n"Reeds", it says.\n'
    assert note.read_text() == f"{SECRET}\n"
    assert "The text of note.txt is in copy.txt now." in printed
    assert sorted(path.name for path in folder.iterdir()) == ["copy.txt", "note.txt"]
