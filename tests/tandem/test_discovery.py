"""Announcing and browsing over real multicast on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from tandem import discovery, interfaces, mdns
from tandem.clock import Clock, SleepWatch
from tandem.discovery import Announcement, Found, browse
from tandem.interfaces import Address
from tandem.mdns import SERVICE_TYPE

LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="session")
def multicast() -> None:
    """Skips where the system itself does not carry multicast on loopback."""
    group = "239.255.77.77"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("", 0))
        receiver.settimeout(2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            try:
                member = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(LOOPBACK))
                receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
                sender.sendto(b"tandem", (group, receiver.getsockname()[1]))
                receiver.recv(64)
            except OSError as error:
                pytest.skip(f"no multicast on loopback here: {error}")


async def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen: {what}")
        await asyncio.sleep(0.02)


class Ear:
    """An announcement that remembers what it found."""

    def __init__(self, cluster: str, node_id: str | None, port: int = 0, listen: str | None = LOOPBACK) -> None:
        self.found: dict[str, Found] = {}
        self.gone: list[str] = []
        self.announcement = Announcement(
            cluster, node_id=node_id, listen=listen, port=port, on_found=self._put, on_gone=self._remove
        )

    def _put(self, found: Found) -> None:
        self.found[found.node_id] = found

    def _remove(self, node_id: str) -> None:
        self.gone.append(node_id)

    async def __aenter__(self) -> Ear:
        await self.announcement.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.announcement.__aexit__(*error)


@pytest.mark.usefixtures("multicast")
async def test_nodes_of_a_cluster_find_each_other_and_nobody_else() -> None:
    async with (
        Ear("one", "node-a", 1001) as a,
        Ear("one", "node-b", 1002) as b,
        Ear("two", "node-c", 1003) as c,
        Ear("one", None) as looker,
    ):
        await until(lambda: a.found and b.found and len(looker.found) == 2, "they meet")
        assert a.found == {"node-b": Found("node-b", (LOOPBACK,), 1002)}
        assert b.found == {"node-a": Found("node-a", (LOOPBACK,), 1001)}
        assert await a.announcement.wait_heard()
        assert await c.announcement.wait_heard()
        assert not looker.announcement.heard_self
        async with Ear("two", "node-d", 1004) as d:
            await until(lambda: c.found and d.found, "the other cluster meets")
        assert set(c.found) == {"node-d"}
        assert set(d.found) == {"node-c"}
        await until(lambda: c.gone == ["node-d"], "a withdrawn announcement is noticed")
        assert set(a.found) == {"node-b"}
        assert not a.gone


@pytest.mark.usefixtures("multicast")
async def test_browse_finds_those_who_were_there_before() -> None:
    async with Ear("browsed", "node-a", 1001) as a:
        assert await a.announcement.wait_heard()
        for loopback in (True, False):
            async with asyncio.timeout(20), contextlib.aclosing(browse("browsed", loopback=loopback)) as nodes:
                assert await anext(nodes) == Found("node-a", (LOOPBACK,), 1001)


@pytest.mark.usefixtures("multicast")
async def test_somebody_else_with_the_same_id_is_reported() -> None:
    async with Ear("same", "node-a", 1001) as a:
        assert await a.announcement.wait_heard()
        assert not a.found
        async with Ear("same", "node-a", 1002) as twin:
            await until(lambda: a.found or twin.found, "one of them sees the other")
        for ear, other in ((a, 1002), (twin, 1001)):
            assert all(found == Found("node-a", (LOOPBACK,), other) for found in ear.found.values())


@pytest.mark.usefixtures("multicast")
async def test_a_failed_start_is_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real, failures = mdns.AsyncZeroconf, []

    def fail_twice(*args: Any, **more: Any) -> Any:
        if len(failures) < 2:
            failures.append(1)
            raise OSError(101, "Network is unreachable")
        return real(*args, **more)

    monkeypatch.setattr(mdns, "AsyncZeroconf", fail_twice)
    monkeypatch.setattr(discovery, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(discovery, "_SETTLE_SECONDS", 0.05)
    async with Ear("again", "node-a", 1001) as a:
        await until(lambda: a.announcement.heard_self, "it announces after all")
    assert len(failures) == 2
    assert [record.message for record in caplog.records].count(
        "mDNS works in part or not at all, and is tried again: [Errno 101] Network is unreachable"
    ) == 1


async def test_silence_is_explained(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*args: Any, **more: Any) -> Any:
        raise OSError(65, "No route to host")

    monkeypatch.setattr(mdns, "AsyncZeroconf", fail)
    monkeypatch.setattr(discovery, "HEARD_SECONDS", 0.05)
    monkeypatch.setattr(discovery.sys, "platform", "darwin")
    async with Ear("unheard", "node-a", 1001) as a:
        assert not await a.announcement.wait_heard()
        await until(lambda: any("Local Network" in record.message for record in caplog.records), "advice")
    monkeypatch.setattr(discovery.sys, "platform", "linux")
    assert "5353" in discovery.advice()


def test_the_record_is_small_and_says_nothing_that_changes() -> None:
    announcement = Announcement(
        "a cluster with a long name " * 9,
        node_id="5dee7a19-5520-44aa-940e-2236048ccc63",
        listen="0.0.0.0",
        port=52415,
        on_found=lambda found: None,
    )
    service = announcement._service(("10.0.0.1", "fe80::1%eth0"))
    assert service is not None
    assert service.type == SERVICE_TYPE
    assert len(service.text) <= 200
    assert set(service.properties) == {b"v", b"id", b"cl"}
    assert service.parsed_addresses() == ["10.0.0.1", "fe80::1"]


def test_who_listens_on_loopback_takes_part_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    own = (Address("10.0.0.1", "en0", 4), Address("fe80::1%en0", "en0", 4), Address("fd00::1", "en0", 4))
    for module in (interfaces, mdns):
        monkeypatch.setattr(module, "own_addresses", lambda: own)
    network = mdns.Network
    assert network.read("127.0.0.1") == ((LOOPBACK,), (), (LOOPBACK,))
    assert network.read("::1") == ((LOOPBACK,), (), ("::1",))
    assert network.read("0.0.0.0") == (("10.0.0.1",), (4,), ("10.0.0.1", "fe80::1%en0", "fd00::1"))
    assert network.read(None) == ((LOOPBACK, "10.0.0.1"), (4,), ())
    connected = network.read("::")
    monkeypatch.setattr(interfaces, "own_addresses", lambda: ())
    assert connected.then(network.read("::")) == connected
    assert network.read("::").hosts == (LOOPBACK,)


def test_a_gap_in_time_is_noticed() -> None:
    now = [5.0]
    watch = SleepWatch(Clock(boottime=lambda: now[0]))
    now[0] += 0.5
    assert watch.gap() == 0.5
    now[0] += 100
    assert watch.gap() == 100
    assert watch.gap() == 0
    assert Clock().boottime() <= Clock().boottime()
