"""A hub on this machine, and an empty cache to fetch into."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from huggingface_hub import constants

sys.path.insert(0, str(Path(__file__).parent))

from hub_server import MODEL, HubServer, Repo, some_model


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server = HubServer({MODEL: Repo(some_model())})
    await server.start()
    try:
        yield server
    finally:
        server.stalled.set()
        await server.stop()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"
