"""The sockets of mDNS: one zeroconf instance for each family of addresses, on the interfaces that take part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from zeroconf import IPVersion, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from tandem.interfaces import LOOPBACK, own_addresses, reachable_hosts
from tandem.settings import is_loopback

SERVICE_TYPE: Final = "_tandem._tcp.local."

_RESOLVE_MS: Final = 3_000


class MulticastStack:
    """One zeroconf instance: macOS has no sockets that carry IPv4 and IPv6 multicast alike, so there are two."""

    def __init__(self, version: IPVersion, changed: Callable[[MulticastStack, str, ServiceStateChange], None]) -> None:
        self._version = version
        self._changed = changed
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._registered = False
        self._wanted = 0

    @property
    def complete(self) -> bool:
        """Whether every interface of the last update can be sent on."""
        return self._wanted == 0 or (
            self._zeroconf is not None and len(self._zeroconf.zeroconf.engine.senders) >= self._wanted
        )

    async def update(self, interfaces: list[str | int], service: ServiceInfo | None) -> None:
        """Browses on exactly these interfaces, and announces ``service`` there once more, if one is given."""
        self._wanted = len(interfaces)
        if self._zeroconf is None:
            if not interfaces:
                return
            self._zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=self._version)
            self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._on_change])
        elif interfaces:
            await self._zeroconf.async_update_interfaces(interfaces)
        if service is None:
            return
        if self._registered:
            await (await self._zeroconf.async_update_service(service))
        else:
            # Without the probing of names, which takes a second: ids are unique, and who has a copy of one is told
            # so when it joins.
            self._registered = True
            await (await self._zeroconf.async_register_service(service, cooperating_responders=True))

    async def resolve(self, name: str) -> AsyncServiceInfo | None:
        """The records behind a name; None when nobody answers for it in time."""
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if self._zeroconf is None or not await info.async_request(self._zeroconf.zeroconf, _RESOLVE_MS):
            return None
        return info

    async def close(self) -> None:
        """Withdraws what was announced and closes the sockets."""
        zeroconf, browser = self._zeroconf, self._browser
        self._zeroconf, self._browser, self._registered = None, None, False
        if browser is not None:
            await browser.async_cancel()
        if zeroconf is not None:
            await zeroconf.async_close()

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        self._changed(self, name, state_change)


class Network(NamedTuple):
    """What of this machine takes part."""

    ipv4: tuple[str, ...]
    ipv6: tuple[int, ...]
    hosts: tuple[str, ...]

    @classmethod
    def read(cls, listen: str | None) -> Network:
        """The interfaces for a node that listens on the host ``listen``; for None, of somebody who only looks."""
        hosts = reachable_hosts(listen) if listen is not None else ()
        if hosts and only_loopback(hosts):
            return cls((LOOPBACK,), (), hosts)
        own = own_addresses()
        ipv4 = tuple(sorted({address.host for address in own if not address.is_ipv6}))
        ipv6 = tuple(sorted({address.number for address in own if address.is_ipv6}))
        return cls(ipv4 if listen is not None else (LOOPBACK, *ipv4), ipv6, hosts)

    def then(self, later: Network) -> Network:
        """What follows on this: a machine that loses its last address keeps what it had, until it has another."""
        return self if later.hosts and only_loopback(later.hosts) else later


def only_loopback(hosts: Iterable[str]) -> bool:
    """Whether none of these hosts can be reached from another machine."""
    return all(is_loopback(host) for host in hosts)
