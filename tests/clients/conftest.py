from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from client_environments import python_with
from running_cluster import Cluster, running
from scripted_nodes import ScriptedCluster, running_script


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with the embedded model over both, and a gateway."""
    with running(tmp_path_factory.mktemp("demo"), 2, model="tandem-demo") as cluster:
        yield cluster


@pytest.fixture(scope="package")
def scripted_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedCluster]:
    """The same with nodes that draw by script."""
    with running_script(tmp_path_factory.mktemp("scripted")) as cluster:
        yield cluster


@pytest.fixture
def scripted(scripted_cluster: ScriptedCluster) -> Iterator[ScriptedCluster]:
    """The scripted cluster; the script is forgotten with the test."""
    yield scripted_cluster
    scripted_cluster.say()


@pytest.fixture(scope="package")
def client_python() -> Path:
    """An interpreter with OpenAI's client and a schema checker."""
    return python_with("openai-3.54.0", "openai==3.54.0", "jsonschema")
