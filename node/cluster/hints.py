"""Where other nodes may be. A hint proves nothing: it is worth a dial, and the dial decides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from node.cluster.addresses import addresses_of
from node.cluster.bell import Bell
from tandem.clock import Clock
from tandem.discovery import Found
from tandem.interfaces import zoned
from tandem.settings import join_address, split_address
from tandem.v1.membership_pb2 import Node

HEARSAY_SECONDS: Final = 60.0
"""How long a node is tried that only other members speak of, after the last of them did."""

MAX_NODES: Final = 1024
"""Hints about more nodes than these are not taken, so that a noisy network cannot fill the memory."""


@dataclass(slots=True)
class _Hint:
    announced: tuple[str, ...] = ()
    told: dict[str, float] = field(default_factory=dict)
    """Address and until when it counts."""


class Hints:
    """Three sources of addresses that count alike: peers given by hand, announcements, and what members tell.

    ``changed`` rings when there is something new to dial.
    """

    def __init__(self, peers: Iterable[str] = (), *, clock: Clock | None = None) -> None:
        """``peers`` are ``host:port`` of nodes whose ids are not known yet."""
        self.peers = tuple(dict.fromkeys(peers))
        self.changed = Bell()
        self._clock = clock or Clock()
        self._hints: dict[str, _Hint] = {}

    def found(self, found: Found) -> None:
        """A node announced itself."""
        hint = self._hint(found.node_id)
        addresses = tuple(join_address(host, found.port) for host in found.addresses)
        if hint is not None and hint.announced != addresses:
            hint.announced = addresses
            self.changed.ring()

    def gone(self, node_id: str) -> None:
        """An announcement was withdrawn or ran out; a hint as well: a member that still answers stays one."""
        hint = self._hints.get(node_id)
        if hint is not None:
            hint.announced = ()

    def told(self, node: Node, *addresses: str) -> None:
        """A member, or the node itself, says that the node is there; ``addresses`` are more ways that worked."""
        hint = self._hint(node.node_id)
        if hint is None:
            return
        new = False
        for address in (*addresses, *addresses_of(node)):
            new |= address not in hint.told
            hint.told[address] = self._clock.monotonic() + HEARSAY_SECONDS
        if new:
            self.changed.ring()

    def forget(self, node_id: str) -> None:
        """The node left: no reason to dial it until something new is heard."""
        self._hints.pop(node_id, None)

    def nodes(self) -> set[str]:
        """Ids that are worth dialling now."""
        now = self._clock.monotonic()
        for node_id, hint in list(self._hints.items()):
            hint.told = {address: until for address, until in hint.told.items() if until > now}
            if not hint.told and not hint.announced:
                del self._hints[node_id]
        return set(self._hints)

    def addresses(self, node_id: str) -> tuple[str, ...]:
        """Every ``host:port`` to try for the node, each once."""
        hint = self._hints.get(node_id)
        return tuple(dict.fromkeys((*hint.announced, *hint.told))) if hint is not None else ()

    def _hint(self, node_id: str) -> _Hint | None:
        if node_id not in self._hints and len(self._hints) >= MAX_NODES:
            return None
        return self._hints.setdefault(node_id, _Hint())


def dialable(addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses, each once; link-local ones without a zone stand for one per interface of this machine."""
    split = [split_address(address) for address in addresses]
    return tuple(dict.fromkeys(join_address(here, port) for host, port in split for here in zoned(host)))
