"""Nodes that announce themselves on the local network."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator


async def browse_nodes(cluster: str) -> AsyncIterator[str]:
    """Yields the addresses at which nodes of a cluster announce themselves, until cancelled."""
    discovery = importlib.import_module("tandem.discovery")
    async for found in discovery.browse(cluster):
        yield found.address
