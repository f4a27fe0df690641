"""Agent frameworks as people use them: the programs in examples/clients, each in an environment of its own.

Only the tokens are scripted, and those of the answer only once the tool's result has reached the prompt.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from asking import QWEN
from client_environments import ROOT, python_with
from scripted_nodes import ScriptedCluster, call

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples" / "clients"
RESULT = "21 degrees and sunny in Paris"
ANSWER = "It is sunny in Paris, at 21 degrees."
PROGRAMS = {
    "with_langchain.py": "langchain-openai==1.7.4",
    "with_pydantic_ai.py": "pydantic-ai-slim[openai]==2.68.0",
    "with_openai_agents.py": "openai-agents==0.24.0",
    "with_instructor.py": "instructor==1.17.0",
    "with_litellm.py": "litellm==1.110.2",
    "with_smolagents.py": "smolagents[openai]==1.26.0",
}


def script(cluster: ScriptedCluster) -> None:
    """A call, and after its result the answer; smolagents has a tool to give that with."""
    cluster.say(
        ("weather in Paris", call("get_weather", city="Paris")),
        (["weather in Paris", RESULT], ANSWER),
        (["weather in Paris", RESULT, '"name": "final_answer"'], call("final_answer", answer=ANSWER)),
    )


def run(cluster: ScriptedCluster, *command: str, **environment: str) -> str:
    """What the client prints."""
    settings = {
        "OPENAI_BASE_URL": f"{cluster.base}/v1",
        "TANDEM_MODEL": QWEN,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        command, env=os.environ | settings | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_framework_calls_runs_and_answers(scripted: ScriptedCluster, program: str) -> None:
    python = python_with(PROGRAMS[program].replace("[openai]", ""), PROGRAMS[program])
    script(scripted)
    printed = run(scripted, str(python), str(EXAMPLES / program))
    assert printed.count("get_weather('Paris')") == 1, printed
    assert printed.strip().endswith(ANSWER), printed


def test_llm_calls_runs_and_answers(scripted: ScriptedCluster, tmp_path: Path) -> None:
    python = python_with("llm==0.36", "llm==0.36")
    models = (EXAMPLES / "llm-models.yaml").read_text()
    (tmp_path / "extra-openai-models.yaml").write_text(
        models.replace("http://127.0.0.1:52525", scripted.base).replace("tandem-demo-qwen", QWEN)
    )
    script(scripted)
    command = [str(python.parent / "llm"), "-m", "tandem", "--key", "none"]
    command += ["--functions", str(EXAMPLES / "llm_weather.py"), "What is the weather in Paris?"]
    printed = run(scripted, *command, LLM_USER_PATH=str(tmp_path))
    assert printed.count("get_weather('Paris')") == 1, printed
    assert printed.strip().endswith(ANSWER), printed
