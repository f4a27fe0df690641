"""Judges from outside that take minutes: a fuzzer of the published description, and Berkeley's questions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from asking import QWEN, wait_until_free
from client_environments import ROOT, python_with, shared_client
from demo_model.cases import generated, handwritten
from evaluate_demo_model import ask, body_of, right
from running_cluster import Cluster, running

pytestmark = pytest.mark.slow

FUZZING_SECONDS = int(os.environ.get("FUZZ_SECONDS") or 120)
"""How long requests are generated."""
SHORT_CONTEXT = 256
QUESTIONS = 5
"""Of each of Berkeley's five categories."""


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes with the embedded model, whose context is short: an answer without a limit ends with it."""
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "node" / "demo", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": SHORT_CONTEXT}))
    with running(tmp_path, 2, model=str(folder)) as cluster:
        yield cluster


def test_no_generated_request_ends_in_a_server_error(short: Cluster, tmp_path: Path) -> None:
    """The description is as it is published, but for the model's name."""
    python = python_with("schemathesis-4.32.5", "schemathesis==4.32.5")
    description = tmp_path / "openapi.json"
    description.write_text(shared_client("openapi-lean.json").read_text().replace('"stub-model"', json.dumps(QWEN)))
    command = [str(python.parent / "schemathesis"), "run", str(description), "-u", f"{short.base}/v1"]
    command += ["--include-path", "/chat/completions", "--include-path", "/completions", "--include-path", "/models"]
    command += ["--phases", "fuzzing", "-n", "100000", "--checks", "not_a_server_error"]
    command += ["--request-timeout", "120", "--no-color"]
    command += ["--max-time", str(FUZZING_SECONDS), "--suppress-health-check", "all"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=FUZZING_SECONDS + 240, check=False
    )
    printed = done.stdout + done.stderr
    print(printed)
    assert "Server error" not in printed
    assert done.returncode == 0
    cases = re.search(r"(\d+) generated", printed)
    assert cases is not None
    assert int(cases[1]) > 30
    wait_until_free(short)


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """As the demonstration's, but no grammar wakes where the model may choose."""
    entry = [str(Path(__file__).with_name("free_node.py"))]
    with running(tmp_path_factory.mktemp("free"), 2, model="tandem-demo", entry=entry) as cluster:
        yield cluster


def test_the_grammar_breaks_no_answer_and_costs_none(demo: Cluster, free: Cluster, tmp_path: Path) -> None:
    """Berkeley's questions, once with the grammar that wakes in a call and once without any, greedy.

    How many answers are right says something about the demonstration model; that none is broken, and that as many are
    right as without a grammar, about Tandem.
    """
    guided = berkeley(demo, tmp_path / "guided.jsonl")
    unguided = berkeley(free, tmp_path / "free.jsonl")
    print(f"with the grammar {guided}, free {unguided}")
    assert guided.broken == 0
    assert guided.right >= unguided.right
    assert guided.cut <= unguided.cut + unguided.broken


def test_the_grammar_costs_no_answer_that_the_model_knows(demo: Cluster, free: Cluster) -> None:
    """The same with the questions that the demonstration model is scored by."""
    cases = [*generated({"one": 15, "several": 10, "result": 3, "none": 2}), *handwritten()[::6]]

    def score(cluster: Cluster) -> int:
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda case: ask(f"{cluster.base}/v1", "none", body_of(case, QWEN)), cases)
            return sum(right(case, answer) for case, answer in zip(cases, answers, strict=True))

    guided, unguided = score(demo), score(free)
    print(f"of {len(cases)} with the grammar {guided} right, free {unguided}")
    assert guided >= unguided


class Score(NamedTuple):
    """Of so many questions: right answers, and calls whose arguments are no JSON: those that the limit of an answer has
    cut, and broken ones. No answer at all is a broken one, too."""

    questions: int
    right: int
    cut: int
    broken: int


def berkeley(cluster: Cluster, rows: Path) -> Score:
    python = python_with(
        "bfcl-2026.3.23",
        *("openai==3.54.0", "tree_sitter==0.21.3", "tree-sitter-java==0.21.0", "tree-sitter-javascript==0.21.4"),
        alone="bfcl-eval==2026.3.23",
    )
    command = [str(python), str(shared_client("bfcl_lite.py")), f"{cluster.base}/v1", QWEN]
    command += ["--n", str(QUESTIONS), "--conc", "8", "--stream", "--max-tokens", "200", "--out", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    printed = done.stdout + done.stderr
    assert rows.exists(), printed
    answers = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(answers) == 5 * QUESTIONS, printed
    wrong = [row for row in answers if str(row.get("err") or "").startswith(("http", "arguments"))]
    cut = [row for row in wrong if row["calls"] and is_beginning(row["calls"][-1][1])]
    print(printed, *wrong, sep="\n")
    return Score(len(answers), sum(row["ok"] for row in answers), len(cut), len(wrong) - len(cut))


def is_beginning(text: str) -> bool:
    """Whether it is JSON that breaks off."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())
    return False
