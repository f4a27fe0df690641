"""The addresses of this machine, and what of them a listening socket can be reached by."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, NamedTuple

import ifaddr

from tandem.settings import is_loopback

LOOPBACK: Final = "127.0.0.1"
_WILDCARDS: Final = ("0.0.0.0", "::", "")


class Address(NamedTuple):
    """One address of one interface; ``host`` is literal, IPv6 link-local with its zone (``fe80::1%en5``)."""

    host: str
    interface: str
    number: int

    @property
    def is_ipv6(self) -> bool:
        """Whether this is an IPv6 address."""
        return ":" in self.host


def own_addresses() -> tuple[Address, ...]:
    """Every address of this machine but loopback, IPv4 first, in a stable order."""
    found = set()
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            host = str(ip.ip if ip.is_IPv4 else ip.ip[0]).partition("%")[0]
            if is_loopback(host) or ipaddress.ip_address(host).is_unspecified:
                continue
            if is_link_local_v6(host):
                host = f"{host}%{adapter.name}"
            found.add(Address(host, adapter.name, adapter.index or 0))
    return tuple(sorted(found, key=lambda address: (address.is_ipv6, address)))


def is_link_local_v6(host: str) -> bool:
    """Whether the host means something only together with an interface of the machine that dials it."""
    try:
        return ":" in host and ipaddress.ip_address(host.partition("%")[0]).is_link_local
    except ValueError:
        return False


def is_literal(host: str) -> bool:
    """Whether the host is an address, not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def reachable_hosts(listen: str) -> tuple[str, ...]:
    """The hosts under which others reach a server that listens on the host ``listen``.

    A server on loopback is reached by loopback alone; one on a wildcard by every address of the machine, or by
    loopback where the machine has no other.
    """
    if listen == "localhost":
        return (LOOPBACK,)
    if listen not in _WILDCARDS:
        return zoned(listen)
    return tuple(address.host for address in own_addresses()) or (LOOPBACK,)


def zoned(host: str) -> tuple[str, ...]:
    """The host as this machine can dial it: link-local without a zone stands for one host per interface."""
    if ":" not in host or "%" in host or not is_link_local_v6(host):
        return (host,)
    zones = sorted({address.interface for address in own_addresses() if is_link_local_v6(address.host)})
    return tuple(f"{host}%{zone}" for zone in zones)


def named_zone(host: str) -> str:
    """The host with the interface's name in place of its number (``fe80::1%4`` becomes ``fe80::1%eth0``)."""
    literal, percent, zone = host.partition("%")
    if not percent or not zone.isdigit():
        return host
    try:
        return f"{literal}%{socket.if_indextoname(int(zone))}"
    except OSError:
        return literal
