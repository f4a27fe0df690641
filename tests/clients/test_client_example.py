"""What a newcomer copies: the README's programs and examples/ do what the README shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from client_environments import ROOT
from running_cluster import Cluster
from scripted_nodes import ScriptedCluster, call

EXAMPLE = ROOT / "examples" / "tools.py"
GATEWAY = "http://127.0.0.1:52525"


def blocks(kind: str) -> list[str]:
    """The README's blocks of one language, in order."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in fences if language == kind]


def printed(cluster: Cluster, *command: str, **variables: str) -> str:
    """What a command prints when it talks to this cluster."""
    environment = {**os.environ, "OPENAI_BASE_URL": f"{cluster.base}/v1", **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_loop_of_an_agent(demo: Cluster) -> None:
    (shown,) = blocks("console")
    assert "$ python examples/tools.py\n" + printed(demo, sys.executable, str(EXAMPLE)) == shown
    assert len(EXAMPLE.read_text().splitlines()) <= 80
    assert blocks("py") == [EXAMPLE.read_text()]


def test_the_loop_runs_nothing_but_arithmetic(scripted: ScriptedCluster) -> None:
    """And tells the model what was wrong with its calls, in the order in which it made them."""
    code, oslo = "__import__('os').getcwd()", 'get_weather({"city": "Oslo"}) = 4 degrees'
    calls = [call("calculator", expression=code), call("calculator", expression="("), call("get_weather", city="Oslo")]
    scripted.say(("Where are we?", "\n".join(calls)), (["is not arithmetic", "4 degrees"], "I could not find out."))
    asked, first, second, third, answer = printed(scripted, sys.executable, str(EXAMPLE), "Where are we?").splitlines()
    assert asked == "> Where are we?"
    assert first.startswith("  calculator(")
    assert "is not arithmetic" in first
    assert second.startswith('  calculator({"expression": "("}) = error: SyntaxError')
    assert third.strip() == oslo
    assert answer == "I could not find out."


def test_the_readmes_curl(demo: Cluster) -> None:
    (command,) = [block for block in blocks("sh") if block.startswith("curl")]
    (choice,) = json.loads(printed(demo, "bash", "-c", command.replace(GATEWAY, demo.base)))["choices"]
    (shown,) = [block for block in blocks("") if '"object"' in block]
    (call,) = choice["message"]["tool_calls"]
    assert json.dumps(call["function"]) in shown.replace("\n", " ")
    assert f'"finish_reason": "{choice["finish_reason"]}"' in shown


def test_the_readmes_program(demo: Cluster) -> None:
    (program,) = blocks("python")
    shown = printed(demo, sys.executable, "-c", program.replace(GATEWAY, demo.base))
    assert shown in blocks("")


def test_the_readmes_configuration_is_json() -> None:
    (configuration,) = blocks("json")
    provider, _, model = json.loads(configuration)["model"].partition("/")
    assert model in json.loads(configuration)["provider"][provider]["models"]
