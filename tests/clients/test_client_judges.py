"""Judges from outside that take minutes: a fuzzer of the published description, and Berkeley's questions."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from asking import QWEN, wait_until_free
from client_environments import python_with, shared_client
from running_cluster import Cluster

pytestmark = pytest.mark.slow

FUZZING_SECONDS = 120


def test_no_generated_request_ends_in_a_server_error(demo: Cluster, tmp_path: Path) -> None:
    python = python_with("schemathesis-4.32.5", "schemathesis==4.32.5")
    lean = json.loads(shared_client("openapi-lean.json").read_text().replace('"stub-model"', json.dumps(QWEN)))
    # An answer without a limit is as long as the context.
    for schema in lean["components"]["schemas"].values():
        for part in schema.get("allOf", [schema]):
            if {"model", "max_tokens"} <= part.get("properties", {}).keys():
                part["required"] = [*part.get("required", []), "max_tokens"]
                part["properties"]["max_tokens"]["type"] = "integer"
    description = tmp_path / "openapi.json"
    description.write_text(json.dumps(lean))
    command = [str(python.parent / "schemathesis"), "run", str(description), "-u", f"{demo.base}/v1"]
    command += ["--include-path", "/chat/completions", "--include-path", "/completions", "--include-path", "/models"]
    command += ["--phases", "fuzzing", "-n", "1000", "--checks", "not_a_server_error"]
    command += ["--request-timeout", "60", "--no-color"]
    command += ["--max-time", str(FUZZING_SECONDS), "--suppress-health-check", "all"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=FUZZING_SECONDS + 180, check=False
    )
    printed = done.stdout + done.stderr
    assert "Server error" not in printed, printed
    assert done.returncode == 0, printed
    cases = re.search(r"(\d+) generated", printed)
    assert cases is not None, printed
    assert int(cases[1]) > 30, printed
    wait_until_free(demo)


def test_berkeleys_questions_break_nothing(demo: Cluster, tmp_path: Path) -> None:
    """How many answers are right says something about the demonstration model; that none is broken, about Tandem."""
    python = python_with(
        "bfcl-2026.3.23",
        *("openai==3.54.0", "tree_sitter==0.21.3", "tree-sitter-java==0.21.0", "tree-sitter-javascript==0.21.4"),
        alone="bfcl-eval==2026.3.23",
    )
    command = [str(python), str(shared_client("bfcl_lite.py")), f"{demo.base}/v1", QWEN]
    command += ["--n", "5", "--stream", "--max-tokens", "200", "--out", str(tmp_path / "rows.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    printed = done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 25, printed
    broken = [row for row in rows if str(row.get("err") or "").startswith(("http", "arguments"))]
    assert not broken, broken
