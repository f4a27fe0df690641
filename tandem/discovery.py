"""Nodes that announce themselves by mDNS, and who looks for them: nodes, gateways, the command line.

What is found is a hint: it is worth a dial, and only the dial tells whether a node is there and who it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceInfo, ServiceStateChange

from tandem.clock import Clock, SleepWatch
from tandem.interfaces import LOOPBACK, named_zone, reachable_hosts
from tandem.mdns import SERVICE_TYPE, MulticastStack, Network, only_loopback
from tandem.settings import is_loopback

logger: Final = logging.getLogger(__name__)

HEARD_SECONDS: Final = 3.0
"""Within which an announcement comes back to who sent it, on a machine where multicast works."""

_POLL_SECONDS: Final = 5.0
_SETTLE_SECONDS: Final = 1.0
_ANNOUNCE_SECONDS: Final = 15.0
_SETTLING_SECONDS: Final = 10.0
_ASLEEP_SECONDS: Final = 10.0
_MAX_PENDING: Final = 256
_TROUBLE: Final = (OSError, RuntimeError, ZeroconfError)


class Found(NamedTuple):
    """A node that announced itself: its id, the literal hosts that it named, and its port."""

    node_id: str
    addresses: tuple[str, ...]
    port: int


def advice() -> str:
    """What to check when this machine does not hear its own announcements."""
    if sys.platform == "darwin":
        return (
            "open System Settings, Privacy & Security, Local Network, and allow the program that started Tandem (your "
            "terminal or editor); where it is allowed already, switch it off and on again"
        )
    return "check that the firewall lets UDP port 5353 and the multicast groups 224.0.0.251 and ff02::fb through"


class Announcement:
    """Looks for the nodes of a cluster, and announces one where it is given one, for as long as it is entered.

    An async context manager. It follows the machine's interfaces as they come and go, survives sleep, and tries again
    for ever when sending fails. A node that listens on loopback announces on loopback only, and hears of nobody else.
    Leaving it withdraws the announcement and closes every socket, also when cancelled.
    """

    def __init__(
        self,
        cluster: str,
        *,
        node_id: str | None = None,
        listen: str | None = None,
        port: int = 0,
        on_found: Callable[[Found], None],
        on_gone: Callable[[str], None] = lambda node_id: None,
        clock: Clock | None = None,
    ) -> None:
        """``listen`` is the host that the node ``node_id`` listens on. The callbacks run on the loop.

        ``on_found`` is called again when the addresses of a node change; for ``node_id`` itself only when somebody
        else announces that id. ``on_gone`` is called when a node withdrew, or was not heard of for long (minutes to
        an hour: a hint as well).
        """
        self._cluster = _cluster_hash(cluster)
        self._node_id = node_id
        self._listen = listen
        self._port = port
        self._on_found = on_found
        self._on_gone = on_gone
        self._clock = clock or Clock()
        self._stacks = (
            MulticastStack(IPVersion.V4Only, self._on_change),
            MulticastStack(IPVersion.V6Only, self._on_change),
        )
        self._addresses: dict[str, dict[MulticastStack, tuple[str, ...]]] = {}
        self._pending: asyncio.Queue[tuple[MulticastStack, str]] = asyncio.Queue(_MAX_PENDING)
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""

    @property
    def heard_self(self) -> bool:
        """Whether this node's own announcement came back: the sign that multicast works on this machine."""
        return self._heard.is_set()

    async def wait_heard(self) -> bool:
        """``heard_self``, as soon as it is true, or after ``HEARD_SECONDS``."""
        try:
            async with asyncio.timeout(HEARD_SECONDS):
                await self._heard.wait()
        except TimeoutError:
            pass
        return self.heard_self

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_network())
                group.create_task(self._resolve_all(group))
                if self._node_id is not None:
                    group.create_task(self._warn_when_unheard())
        finally:
            await self._close()

    async def _close(self) -> None:
        for stack in self._stacks:
            try:
                await stack.close()
            except _TROUBLE as error:
                logger.debug("mDNS did not close in good order: %s", error)

    async def _follow_network(self) -> None:
        watch = SleepWatch(self._clock)
        network = Network.read(self._listen)
        await self._apply(network, announce=True)
        announced = changed = self._clock.monotonic()
        while True:
            # A new address is no good for a second or two, until the kernel knows that nobody else has it.
            settling = not self._complete and self._clock.monotonic() - changed < _SETTLING_SECONDS
            await asyncio.sleep(_SETTLE_SECONDS if settling else _POLL_SECONDS)
            slept = watch.gap() > _POLL_SECONDS + _ASLEEP_SECONDS
            now = network.then(Network.read(self._listen))
            if now != network:
                # Interfaces flap while they come up: a change counts when it lasts.
                await asyncio.sleep(_SETTLE_SECONDS)
                if now != network.then(Network.read(self._listen)):
                    continue
                changed = self._clock.monotonic()
            if slept:
                await self._close()
            due = self._clock.monotonic() - announced >= _ANNOUNCE_SECONDS
            announce = slept or due or now != network or bool(self._trouble)
            if announce:
                announced = self._clock.monotonic()
            network = now
            await self._apply(network, announce=announce)

    @property
    def _complete(self) -> bool:
        return not self._trouble and all(stack.complete for stack in self._stacks)

    async def _apply(self, network: Network, *, announce: bool) -> None:
        service = self._service(network.hosts) if announce else None
        trouble = []
        interfaces: tuple[list[str | int], list[str | int]] = ([*network.ipv4], [*network.ipv6])
        for stack, mine in zip(self._stacks, interfaces, strict=True):
            try:
                await stack.update(mine, service)
            except _TROUBLE as error:
                trouble.append(str(error) or type(error).__name__)
        if trouble and not self._trouble:
            logger.warning("mDNS works in part or not at all, and is tried again: %s", "; ".join(trouble))
        self._trouble = "; ".join(trouble)

    def _service(self, hosts: Iterable[str]) -> ServiceInfo | None:
        if self._node_id is None:
            return None
        return ServiceInfo(
            SERVICE_TYPE,
            f"{self._node_id}.{SERVICE_TYPE}",
            port=self._port,
            addresses=[ip_address(host.partition("%")[0]).packed for host in hosts],
            properties={"v": "1", "id": self._node_id, "cl": self._cluster},
            server=f"{self._node_id}.local.",
        )

    def _on_change(self, stack: MulticastStack, name: str, change: ServiceStateChange) -> None:
        node_id = name.removesuffix(f".{SERVICE_TYPE}")
        if node_id == self._node_id:
            self._heard.set()
        if change is ServiceStateChange.Removed:
            known = self._addresses.get(node_id, {})
            if known.pop(stack, None) is not None and not known:
                del self._addresses[node_id]
                self._on_gone(node_id)
        elif not self._pending.full():
            self._pending.put_nowait((stack, name))

    async def _resolve_all(self, group: asyncio.TaskGroup) -> None:
        slots = asyncio.Semaphore(16)
        while True:
            stack, name = await self._pending.get()
            await slots.acquire()
            task = group.create_task(self._resolve(stack, name))
            task.add_done_callback(lambda _: slots.release())

    async def _resolve(self, stack: MulticastStack, name: str) -> None:
        try:
            info = await stack.resolve(name)
        except _TROUBLE as error:
            logger.debug("mDNS could not resolve %s: %s", name, error)
            return
        if info is None or info.port is None:
            return
        properties: dict[bytes, Any] = info.properties
        if properties.get(b"cl") != self._cluster.encode():
            return
        node_id = name.removesuffix(f".{SERVICE_TYPE}")
        hosts = tuple(named_zone(host) for host in info.parsed_scoped_addresses())
        if self._listen is not None and only_loopback(reachable_hosts(self._listen)):
            hosts = tuple(host for host in hosts if is_loopback(host))
        if node_id == self._node_id and self._is_own(hosts, info.port):
            if self._addresses.pop(node_id, None) is not None:
                self._on_gone(node_id)
            return
        by_stack = self._addresses.setdefault(node_id, {})
        by_stack[stack] = hosts
        everywhere = tuple(dict.fromkeys(host for each in by_stack.values() for host in each))
        if everywhere:
            self._on_found(Found(node_id, everywhere, info.port))

    def _is_own(self, hosts: tuple[str, ...], port: int) -> bool:
        own = {host.partition("%")[0] for host in reachable_hosts(self._listen or LOOPBACK)}
        return port == self._port and all(host.partition("%")[0] in own for host in hosts)

    async def _warn_when_unheard(self) -> None:
        if not await self.wait_heard():
            logger.warning(
                "mDNS: this node's own announcement did not come back within %g s, so other nodes may not find it: "
                "%s; or name the nodes with --peer HOST:PORT",
                HEARD_SECONDS,
                advice(),
            )


async def browse(cluster: str, *, loopback: bool = False) -> AsyncGenerator[Found]:
    """The nodes of a cluster as they announce themselves, and again when their addresses change; without end.

    ``loopback`` looks on this machine alone, else everywhere, loopback included. Its sockets are closed with the
    generator: loop over it inside ``contextlib.aclosing``.
    """
    queue: asyncio.Queue[Found] = asyncio.Queue(_MAX_PENDING)

    def put(found: Found) -> None:
        if not queue.full():
            queue.put_nowait(found)

    async with Announcement(cluster, listen=LOOPBACK if loopback else None, on_found=put):
        while True:
            yield await queue.get()


def _cluster_hash(cluster: str) -> str:
    return hashlib.sha256(cluster.encode()).hexdigest()[:8]
