"""Channels to the heads of pipelines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from grpc import aio

from gateway.cluster.view import address_of
from tandem import rpc
from tandem.errors import UnavailableError
from tandem.v1 import membership_pb2

Key = tuple[int, tuple[str, ...]]


@dataclass
class _Entry:
    key: Key
    channel: aio.Channel


class HeadChannels:
    """One channel for each node: over the endpoint that answered first, kept until the node changes or is forgotten."""

    def __init__(self, dial_seconds: float) -> None:
        self._dial_seconds = dial_seconds
        self._entries: dict[str, _Entry] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def channel(self, node: membership_pb2.Node) -> aio.Channel:
        """A connected channel. Raises ``UnavailableError`` when no endpoint answers in time."""
        addresses = tuple(dict.fromkeys(address_of(endpoint) for endpoint in node.endpoints))
        key = (node.incarnation, addresses)
        async with self._locks.setdefault(node.node_id, asyncio.Lock()):
            entry = self._entries.get(node.node_id)
            if entry is None or entry.key != key:
                entry = _Entry(key, await self._dial(node, addresses))
                self._entries[node.node_id] = entry
            return entry.channel

    def forget(self, node: membership_pb2.Node) -> None:
        """Dials anew next time. Calls that run over the old channel go on; it closes after the last of them."""
        self._entries.pop(node.node_id, None)

    async def close(self) -> None:
        """Closes all channels; calls over them end."""
        entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            await entry.channel.close()

    async def _dial(self, node: membership_pb2.Node, addresses: tuple[str, ...]) -> aio.Channel:
        channels = [rpc.make_channel(address) for address in addresses]
        dials = {asyncio.create_task(channel.channel_ready()): channel for channel in channels}
        winner: aio.Channel | None = None
        try:
            if dials:
                done, _ = await asyncio.wait(dials, timeout=self._dial_seconds, return_when=asyncio.FIRST_COMPLETED)
                winner = next((dials[task] for task in done if task.exception() is None), None)
        finally:
            for task in dials:
                task.cancel()
            for channel in channels:
                if channel is not winner:
                    await channel.close()
        if winner is None:
            where = ", ".join(addresses) or "no address"
            raise UnavailableError(f"the head {node.name or node.node_id} does not answer at {where}", retry_after=2)
        return winner
