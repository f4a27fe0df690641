"""Hints, identity and addresses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.cluster import addresses
from node.cluster.hints import HEARSAY_SECONDS, MAX_NODES, Hints, dialable
from node.cluster.identity import Identity
from tandem import interfaces
from tandem.discovery import Found
from tandem.errors import ConflictError, SettingsError
from tandem.interfaces import Address
from tandem.v1.membership_pb2 import Node
from tandem.v1.types_pb2 import Endpoint


def node(*hosts: str, node_id: str = "b", port: int = 5) -> Node:
    return Node(node_id=node_id, endpoints=[Endpoint(host=host, port=port) for host in hosts])


def test_hearsay_runs_out_unless_it_is_repeated(fake_time: Any) -> None:
    hints = Hints(clock=fake_time.clock)
    hints.told(node("10.0.0.1"))
    fake_time.now += HEARSAY_SECONDS - 1
    hints.told(node("10.0.0.1"))
    fake_time.now += HEARSAY_SECONDS - 1
    assert hints.nodes() == {"b"}
    fake_time.now += 1
    assert hints.nodes() == set()


def test_announcements_count_until_withdrawn_and_both_kinds_add_up(fake_time: Any) -> None:
    hints = Hints(["peer:1", "peer:1"], clock=fake_time.clock)
    assert hints.peers == ("peer:1",)
    hints.found(Found("b", ("10.0.0.1", "fe80::1%eth0"), 5))
    hints.told(node("10.0.0.2"), "mac.local:5")
    assert hints.addresses("b") == ("10.0.0.1:5", "[fe80::1%eth0]:5", "mac.local:5", "10.0.0.2:5")
    fake_time.now += HEARSAY_SECONDS
    assert hints.nodes() == {"b"}
    assert hints.addresses("b") == ("10.0.0.1:5", "[fe80::1%eth0]:5")
    hints.gone("b")
    assert hints.nodes() == set()
    hints.gone("nobody")


def test_only_something_new_rings(fake_time: Any) -> None:
    hints = Hints(clock=fake_time.clock)
    hints.told(node("10.0.0.1", "10.0.0.2"))
    hints.found(Found("b", ("10.0.0.3",), 5))
    rings = hints.changed.rings
    hints.told(node("10.0.0.2", "10.0.0.1"))
    hints.told(node("10.0.0.1"))
    hints.found(Found("b", ("10.0.0.3",), 5))
    assert hints.changed.rings == rings
    hints.told(node("10.0.0.4"))
    assert hints.changed.rings == rings + 1


def test_who_left_is_forgotten(fake_time: Any) -> None:
    hints = Hints(clock=fake_time.clock)
    hints.told(node("10.0.0.1"))
    hints.forget("b")
    assert hints.nodes() == set()
    assert hints.addresses("b") == ()


def test_a_noisy_network_does_not_fill_the_memory(fake_time: Any) -> None:
    hints = Hints(clock=fake_time.clock)
    for number in range(MAX_NODES + 10):
        hints.told(node("10.0.0.1", node_id=str(number)))
        hints.found(Found(f"f{number}", ("10.0.0.1",), 5))
    assert len(hints.nodes()) == MAX_NODES


def test_nonsense_from_others_is_left_out() -> None:
    told = node("", "fe80::1%en5", "no such host%", "10.0.0.1", "::::")
    told.endpoints.add(host="10.0.0.9", port=70_000)
    for address in addresses.addresses_of(told):
        dialable([address])
    assert {"10.0.0.1:5", "[fe80::1]:5"} <= set(addresses.addresses_of(told))
    assert "10.0.0.9:70000" not in addresses.addresses_of(told)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two cables."""
    own = (
        Address("10.0.0.1", "en0", 4),
        Address("169.254.3.4", "en5", 5),
        Address("fe80::1%en0", "en0", 4),
        Address("fe80::5%en5", "en5", 5),
    )
    monkeypatch.setattr(interfaces, "own_addresses", lambda: own)
    monkeypatch.setattr(addresses, "own_addresses", lambda: own)


@pytest.mark.usefixtures("machine")
def test_the_ways_into_a_server() -> None:
    def hosts(listen: str) -> list[str]:
        return [each.host for each in addresses.listen_endpoints(listen, 1)]

    everything = ["10.0.0.1", "169.254.3.4", "fe80::1%en0", "fe80::5%en5"]
    assert hosts("0.0.0.0") == hosts("::") == everything
    assert hosts("127.0.0.1") == hosts("localhost") == ["127.0.0.1"]
    assert hosts("::1") == ["::1"]
    assert hosts("10.0.0.1") == ["10.0.0.1"]
    assert addresses.only_loopback(addresses.listen_endpoints("localhost", 1))
    assert not addresses.only_loopback(addresses.listen_endpoints("::", 1))


@pytest.mark.usefixtures("machine")
def test_link_local_is_tried_on_every_cable() -> None:
    assert dialable(["[fe80::9]:7", "10.0.0.3:7", "[fe80::9%en5]:7", "10.0.0.3:7"]) == (
        "[fe80::9%en0]:7",
        "[fe80::9%en5]:7",
        "10.0.0.3:7",
    )


@pytest.mark.usefixtures("machine")
def test_callers_from_this_machine_are_known() -> None:
    local = ("ipv4:127.0.0.1:5", "ipv6:%5B::1%5D:5", "ipv4:10.0.0.1:5", "ipv6:%5Bfe80::5%255%5D:5", "unix:/tmp/x")
    assert all(addresses.is_local(peer) for peer in local)
    assert not any(addresses.is_local(peer) for peer in ("ipv4:10.0.0.2:5", "ipv6:%5Bfe80::9%255%5D:5"))


def test_a_machine_without_addresses_is_reached_by_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "own_addresses", lambda: ())
    assert interfaces.reachable_hosts("0.0.0.0") == ("127.0.0.1",)
    assert interfaces.zoned("fe80::1") == ()


def test_this_machine_tells_its_addresses() -> None:
    for address in interfaces.own_addresses():
        assert not interfaces.is_loopback(address.host)
        assert ("%" in address.host) == interfaces.is_link_local_v6(address.host)
    assert interfaces.named_zone("fe80::1%1") == "fe80::1%lo" or interfaces.named_zone("fe80::1%1") == "fe80::1%lo0"
    assert interfaces.named_zone("fe80::1%99999") == "fe80::1"
    assert interfaces.named_zone("10.0.0.1") == "10.0.0.1"


def test_an_identity_stays_and_its_incarnation_grows_whatever_the_clock_does(tmp_path: Path) -> None:
    wall = [1000.0]
    with Identity(tmp_path / "new" / "state", wall=lambda: wall[0]) as first:
        node_id, began = first.node_id, first.incarnation
        assert began == 1_000_000
        assert first.renew() == began + 1
        assert first.was_mine(began)
        assert first.was_mine(began + 1)
    wall[0] = 5.0
    with Identity(tmp_path / "new" / "state", wall=lambda: wall[0]) as second:
        assert second.node_id == node_id
        assert second.incarnation == began + 2
        assert not second.was_mine(began + 1)


def test_one_process_per_state_directory(tmp_path: Path) -> None:
    with Identity(tmp_path), pytest.raises(ConflictError, match=r"in use by another node daemon \(process \d+\)"):
        Identity(tmp_path)
    Identity(tmp_path).close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"node_id": "x", "incarnation": 1}', '{"node_id": 1}', '"text"'])
def test_a_damaged_identity_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(SettingsError, match=r"node\.json is damaged"):
        Identity(tmp_path)
    (tmp_path / "node.json").unlink()
    Identity(tmp_path).close()


def test_a_state_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="cannot be used"):
        Identity(tmp_path / "file" / "state")


def test_a_copied_identity_counts_differently(tmp_path: Path) -> None:
    with Identity(tmp_path / "a", wall=lambda: 10.0) as first:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "node.json").write_text((tmp_path / "a" / "node.json").read_text())
        with Identity(tmp_path / "b", wall=lambda: 11.0) as copy:
            assert copy.node_id == first.node_id
            assert copy.incarnation > first.incarnation
            assert not copy.was_mine(first.incarnation)
        assert json.loads((tmp_path / "a" / "node.json").read_text())["incarnation"] == first.incarnation
