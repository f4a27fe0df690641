from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loading_cluster import make_models
from running_cluster import Cluster, running


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with the embedded model over both, and a gateway; tests leave it as they find it."""
    with running(tmp_path_factory.mktemp("demo"), 2, model="tandem-demo") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny random models, in several files each."""
    folder = tmp_path_factory.mktemp("models")
    make_models(folder)
    return folder
