"""opencode, a coding agent, works through two nodes: it reads one file and writes another. Only tokens are scripted."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from asking import QWEN
from client_environments import ROOT, npm_folder, shared_client
from scripted_nodes import ScriptedCluster, call

pytestmark = pytest.mark.slow

TASK = "Copy the text of note.txt to copy.txt."
SECRET = "The heron counts 4711 reeds."
SHORT = {
    "agent": {"build": {"prompt": "You are a coding agent. Use the tools. Be brief."}, "title": {"disable": True}},
    "permission": dict.fromkeys(("task", "skill", "todowrite", "webfetch", "glob", "grep"), "deny"),
}
DONE = "The text of note.txt is in copy.txt now."


def script(cluster: ScriptedCluster, task: str, note: Path, copy: Path) -> None:
    """Each turn only once the turn before has reached the prompt: what opencode read must be in it before anything is
    written, and what it said of the writing before the last words."""
    cluster.say(
        (task, call("read", filePath=str(note))),
        ([task, SECRET], call("write", content=f'{SECRET}\n"Reeds", it says.\n', filePath=str(copy))),
        ([task, SECRET, "Wrote file successfully"], DONE),
    )


def check(done: subprocess.CompletedProcess[str], note: Path, copy: Path) -> None:
    printed = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, printed
    assert copy.read_text() == f'{SECRET}\n"Reeds", it says.\n'
    assert note.read_text() == f"{SECRET}\n"
    assert DONE in printed
    assert sorted(path.name for path in note.parent.iterdir()) == ["copy.txt", "note.txt"]


@pytest.fixture
def note(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    path = folder / "note.txt"
    path.write_text(f"{SECRET}\n")
    return path


def test_opencode_reads_one_file_and_writes_one(scripted: ScriptedCluster, note: Path) -> None:
    """A short prompt and three tools."""
    runner = shared_client("run-opencode.sh")
    copy = note.with_name("copy.txt")
    script(scripted, TASK, note, copy)
    command = [str(runner), f"{scripted.base}/v1", QWEN, str(note.parent), TASK]
    environment = {**os.environ, "SLIM": "1", "OPENCODE_BIN": str(opencode()), "LIMIT": "480"}
    check(
        subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False), note, copy
    )


def test_opencode_as_the_documentation_sets_it_up(scripted: ScriptedCluster, note: Path, tmp_path: Path) -> None:
    """The file of examples/clients; what makes the prompt short stands in a file beside it, as a project's would."""
    copy, home = note.with_name("copy.txt"), tmp_path / "home"
    script(scripted, TASK, note, copy)
    (home / ".config" / "opencode").mkdir(parents=True)
    settings = (ROOT / "examples" / "clients" / "opencode.json").read_text()
    settings = settings.replace("http://127.0.0.1:52525", scripted.base).replace("tandem-demo-qwen", QWEN)
    (home / ".config" / "opencode" / "opencode.json").write_text(settings)
    (home / "models.json").write_text("{}")
    (home / "short.json").write_text(json.dumps(SHORT))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
        "HOME": str(home),
        "PWD": str(note.parent),
        "OPENCODE_CONFIG": str(home / "short.json"),
        # Nothing is looked up outside of this machine.
        "OPENCODE_MODELS_PATH": str(home / "models.json"),
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "npm_config_registry": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [str(opencode()), "run"],
        input=TASK,
        cwd=note.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    check(done, note, copy)


def opencode() -> Path:
    return npm_folder("opencode-ai", "1.18.33") / "node_modules" / ".bin" / "opencode"
