"""Channels to the heads of pipelines."""

from __future__ import annotations

import asyncio

from grpc import aio

from gateway.cluster.view import address_of
from tandem import rpc
from tandem.errors import UnavailableError
from tandem.v1 import membership_pb2

Key = tuple[str, int, tuple[str, ...]]


class HeadChannels:
    """One channel for each node: over the endpoint that answered first, kept until the node changes or it is forgotten.

    All who ask while a node is dialled share that dial and its outcome.
    """

    def __init__(self, dial_seconds: float) -> None:
        self._dial_seconds = dial_seconds
        self._channels: dict[str, tuple[Key, aio.Channel]] = {}
        self._dials: dict[Key, asyncio.Task[aio.Channel]] = {}

    async def channel(self, node: membership_pb2.Node) -> aio.Channel:
        """A connected channel. Raises ``UnavailableError`` when no endpoint answers in time."""
        addresses = tuple(dict.fromkeys(address_of(endpoint) for endpoint in node.endpoints))
        key = (node.node_id, node.incarnation, addresses)
        known, channel = self._channels.get(node.node_id, (None, None))
        if channel is not None and known == key:
            return channel
        dial = self._dials.get(key)
        if dial is None:
            dial = asyncio.create_task(self._dial(node.name or node.node_id, key))
            self._dials[key] = dial
            dial.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(dial)

    def forget(self, node: membership_pb2.Node, channel: aio.Channel) -> None:
        """Gives a channel up, so that the node is dialled anew. Calls that run over it go on."""
        known = self._channels.get(node.node_id)
        if known is not None and known[1] is channel:
            del self._channels[node.node_id]

    async def close(self) -> None:
        """Closes all channels; calls over them end."""
        dials = list(self._dials.values())
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        channels, self._channels = self._channels, {}
        for _, channel in channels.values():
            await channel.close()

    def _keep(self, key: Key, dial: asyncio.Task[aio.Channel]) -> None:
        del self._dials[key]
        if not dial.cancelled() and dial.exception() is None:
            self._channels[key[0]] = (key, dial.result())

    async def _dial(self, name: str, key: Key) -> aio.Channel:
        addresses = key[2]
        channels = [rpc.make_channel(address) for address in addresses]
        attempts = {asyncio.create_task(channel.channel_ready()): channel for channel in channels}
        winner: aio.Channel | None = None
        try:
            if attempts:
                done, _ = await asyncio.wait(attempts, timeout=self._dial_seconds, return_when=asyncio.FIRST_COMPLETED)
                winner = next((attempts[attempt] for attempt in done if attempt.exception() is None), None)
        finally:
            for attempt in attempts:
                attempt.cancel()
            for channel in channels:
                if channel is not winner:
                    await channel.close()
        if winner is None:
            where = ", ".join(addresses) or "no address"
            raise UnavailableError(f"the head {name} does not answer at {where}", retry_after=2)
        return winner
