from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_cluster import Cluster, running


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with the embedded model over both, and a gateway; tests leave it as they find it."""
    with running(tmp_path_factory.mktemp("demo"), 2, model="tandem-demo") as cluster:
        yield cluster
