"""The endpoints of this node, and how the endpoints of another one look from here."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from tandem.interfaces import is_link_local_v6, is_literal, own_addresses, reachable_hosts
from tandem.settings import is_loopback, join_address, split_address
from tandem.v1.membership_pb2 import Node
from tandem.v1.types_pb2 import Endpoint

__all__ = ["addresses_of", "from_here", "is_local", "is_loopback", "listen_endpoints", "only_loopback"]


def listen_endpoints(host: str, port: int) -> tuple[Endpoint, ...]:
    """The ways into a server that listens on ``host`` and was given ``port``; asks the interfaces anew each time."""
    return tuple(Endpoint(host=reachable, port=port) for reachable in reachable_hosts(host))


def only_loopback(endpoints: Iterable[Endpoint]) -> bool:
    """Whether nobody beyond the machine itself can dial these."""
    return all(is_loopback(endpoint.host) for endpoint in endpoints)


def from_here(node: Node, address: str | None) -> Node:
    """A copy of the node with the address that answered best first.

    Link-local endpoints that did not answer are left out: their zones are the other machine's, and useless here.
    """
    seen = Node()
    seen.CopyFrom(node)
    host, port = split_address(address) if address is not None else ("", 0)
    # Endpoints are literal; the name of a machine that was dialled is not passed on.
    if is_literal(host):
        best = Endpoint(host=host, port=port)
        others = [each for each in node.endpoints if each != best and not is_link_local_v6(each.host)]
        del seen.endpoints[:]
        seen.endpoints.extend([best, *others])
    return seen


def addresses_of(node: Node) -> tuple[str, ...]:
    """``host:port`` of each endpoint that makes sense, zones taken off link-local hosts."""
    addresses = []
    for each in node.endpoints:
        host = each.host.partition("%")[0] if is_link_local_v6(each.host) else each.host
        try:
            addresses.append(join_address(*split_address(join_address(host, each.port))))
        except ValueError:
            continue
    return tuple(addresses)


def is_local(peer: str) -> bool:
    """Whether gRPC's name for a caller (``ipv4:10.0.0.1:4711``, ``ipv6:%5B::1%5D:4711``) is this very machine."""
    family, _, address = unquote(peer).partition(":")
    if family not in ("ipv4", "ipv6"):
        return True
    host = split_address(address)[0].partition("%")[0].removeprefix("::ffff:")
    return is_loopback(host) or any(host == own.host.partition("%")[0] for own in own_addresses())
