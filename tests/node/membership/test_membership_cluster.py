"""Several memberships in one process, over real gRPC: joining, leaving, dying, being fenced."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from node.cluster.dial import FencedError
from node.cluster.identity import Identity
from node.cluster.local import LocalNode, LocalState
from node.cluster.timing import Timing
from tandem import rpc
from tandem.errors import ConflictError, NotFoundError, UnavailableError
from tandem.v1.membership_pb2 import (
    NODE_STATE_ALIVE,
    NODE_STATE_DRAINING,
    NODE_STATE_LOST,
    NODE_STATE_STUCK,
    PIPELINE_STATE_DEGRADED,
    PIPELINE_STATE_READY,
    HeartbeatRequest,
    JoinRequest,
    Node,
    NodeCapabilities,
    Pipeline,
    ProbeLinkRequest,
    Stage,
    Topology,
    WatchTopologyRequest,
)
from tandem.v1.membership_pb2_grpc import MembershipServiceStub
from tandem.v1.types_pb2 import Endpoint, Segment

ALL = {"a", "b", "c"}


async def test_a_chain_of_peers_becomes_one_cluster_with_one_stream_per_pair(start: Any, until: Any) -> None:
    a = await start("a")
    b = await start("b", a.address)
    c = await start("c", b.address)
    members = (a, b, c)
    await until(lambda: all(member.alive() == ALL for member in members), "three members everywhere")
    await until(lambda: sum(member.servicer.streams for member in members) == 3, "one stream per pair")
    for member in members:
        nodes = member.membership.topology().nodes
        assert nodes[0].node_id == member.node_id
        assert all(node.state == NODE_STATE_ALIVE and node.capabilities.memory_bytes == 7 for node in nodes)
    await until(lambda: a.membership.channel(c.node_id), "a channel")
    assert a.membership.address(c.node_id) == c.address
    probe = await MembershipServiceStub(a.membership.channel(c.node_id)).ProbeLink(ProbeLinkRequest(payload=b"x" * 99))
    assert probe.payload == b"x" * 99


async def test_a_node_that_leaves_is_gone_at_once_and_may_come_back(start: Any, until: Any, tmp_path: Path) -> None:
    a = await start("a")
    b = await start("b", a.address)
    c = await start("c", a.address)
    await until(lambda: all(member.alive() == ALL for member in (a, b, c)))
    await c.leave()
    assert set(a.seen()) == set(b.seen()) == {"a", "b"}
    with pytest.raises(NotFoundError):
        a.membership.channel(c.node_id)
    again = await start("c", b.address, identity=Identity(tmp_path / "c-2"))
    assert again.node_id == c.node_id
    await until(lambda: all(member.alive() == ALL for member in (a, b, again)), "c is back")


async def test_a_dead_node_is_lost_with_a_reason_and_back_under_a_new_incarnation(
    start: Any, until: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a = await start("a")
    b = await start("b", a.address)
    await until(lambda: a.alive() == b.alive() == {"a", "b"})
    before = a.membership.node(b.node_id).incarnation
    await b.die(monkeypatch)
    await until(lambda: a.seen().get("b") == NODE_STATE_LOST, "b is lost")
    assert "lost since" in a.state_reason("b")
    with pytest.raises(UnavailableError, match="lost since"):
        a.membership.channel(b.node_id)
    again = await start("b", a.address, identity=Identity(tmp_path / "b-1"))
    await until(lambda: a.alive() == again.alive() == {"a", "b"}, "b is back")
    assert a.membership.node(b.node_id).incarnation > before
    assert not again.fenced


async def test_a_silent_node_is_lost_told_so_and_admitted_anew(start: Any, until: Any) -> None:
    a = await start("a")
    node = Node(
        node_id="ffffffff-ghost",
        incarnation=5,
        name="ghost",
        version="0.1.9",
        endpoints=[Endpoint(host="127.0.0.1", port=9)],
    )
    async with rpc.make_channel(a.address) as channel:
        stub = MembershipServiceStub(channel)
        await stub.Join(JoinRequest(node=node, cluster="test"))
        call = stub.Heartbeat()
        await call.write(HeartbeatRequest(node=node))
        assert (await call.read()).beat.node.name == "a"
        assert a.seen()["ghost"] == NODE_STATE_ALIVE
        await until(lambda: a.seen()["ghost"] == NODE_STATE_LOST, "silence is noticed")
        assert "no heartbeat" in a.state_reason("ghost")
        answers = []
        while (answer := await call.read()) is not aio.EOF:
            answers.append(answer)
        assert answers[-1].fenced
        assert not any(answer.fenced for answer in answers[:-1])

        late = stub.Heartbeat()
        await late.write(HeartbeatRequest(node=node))
        assert (await late.read()).fenced
        with pytest.raises(aio.AioRpcError) as refusal:
            await stub.Join(JoinRequest(node=node, cluster="test"))
        assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert rpc.from_rpc_error(refusal.value).code == "fenced"
        node.incarnation = 6
        await stub.Join(JoinRequest(node=node, cluster="test"))
        assert a.seen()["ghost"] == NODE_STATE_ALIVE


async def test_beats_of_strangers_are_refused(start: Any) -> None:
    a = await start("a")
    async with rpc.make_channel(a.address) as channel:
        call = MembershipServiceStub(channel).Heartbeat()
        await call.write(HeartbeatRequest(node=Node(node_id="nobody", incarnation=1)))
        with pytest.raises(aio.AioRpcError) as refusal:
            await call.read()
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert set(a.seen()) == {"a"}


@pytest.mark.parametrize(("kind", "words"), [({"cluster": "other"}, "cluster"), ({"version": "0.2.0"}, "Tandem 0.1.0")])
async def test_another_cluster_or_version_never_merges(
    start: Any, until: Any, kind: dict[str, str], words: str
) -> None:
    a = await start("a")
    b = await start("b", a.address, **kind)
    c = await start("c", a.address, b.address)
    await until(lambda: a.alive() == c.alive() == {"a", "c"})
    assert set(b.seen()) == {"b"}
    async with rpc.make_channel(a.address) as channel:
        node = b.membership.topology().nodes[0]
        with pytest.raises(aio.AioRpcError, match=words) as refusal:
            await MembershipServiceStub(channel).Join(JoinRequest(node=node, cluster=kind.get("cluster", "test")))
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert set(a.seen()) == {"a", "c"}


def copy_of(identity: Identity, directory: Path) -> Identity:
    """A state directory copied to another machine."""
    directory.mkdir()
    (directory / "node.json").write_text(json.dumps({"node_id": identity.node_id, "incarnation": identity.incarnation}))
    return Identity(directory)


@pytest.mark.parametrize("through", ["another", "the first"])
async def test_of_two_nodes_with_one_id_the_second_goes(start: Any, until: Any, tmp_path: Path, through: str) -> None:
    a = await start("a")
    b = await start("b", a.address)
    await until(lambda: a.alive() == b.alive() == {"a", "b"})
    met = a if through == "another" else b
    clone = await start("clone", met.address, identity=copy_of(b.identity, tmp_path / "copy"))
    with pytest.raises(ConflictError, match=f"node id {b.node_id} is in use"):
        await asyncio.wait_for(clone.task, 20)
    clone.task = None
    await asyncio.sleep(0.5)
    assert a.seen() == b.seen() == {"a": NODE_STATE_ALIVE, "b": NODE_STATE_ALIVE}
    assert not b.fenced


async def test_the_first_of_two_with_one_id_meets_the_second_by_dialling(start: Any, tmp_path: Path) -> None:
    first_identity = Identity(tmp_path / "first")
    clone = await start("clone", identity=copy_of(first_identity, tmp_path / "copy"))
    first = await start("first", clone.address, identity=first_identity)
    with pytest.raises(ConflictError, match="which was there first"):
        await asyncio.wait_for(clone.task, 20)
    clone.task = None
    assert not first.task.done()


async def test_a_node_that_finds_itself_stays_alone(start: Any) -> None:
    a = await start("a", run=False)
    a.hints.peers = (a.address,)
    await a.begin()
    await asyncio.sleep(0.5)
    assert a.seen() == {"a": NODE_STATE_ALIVE}
    assert not a.task.done()


async def test_sleep_begins_a_new_incarnation_and_joins_again(start: Any, until: Any) -> None:
    a = await start("a")
    b = await start("b", a.address)
    await until(lambda: a.alive() == b.alive() == {"a", "b"})
    before = b.identity.incarnation
    b.asleep = 3600.0
    await until(lambda: b.fenced, "b noticed")
    assert "did not run for" in b.fenced[0]
    assert b.identity.incarnation > before
    await until(
        lambda: a.membership.node(b.node_id).incarnation == b.identity.incarnation and a.alive() == b.alive(),
        "rejoined",
    )
    await asyncio.sleep(0.5)
    assert len(b.fenced) == 1
    assert not a.fenced


class Cable:
    """A TCP relay that can be cut."""

    def __init__(self, target: str | None = None) -> None:
        self.target = target
        self.whole = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._served: set[asyncio.Task[None]] = set()

    async def lay(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self.whole = False
        for writer in self._writers:
            writer.transport.abort()

    async def remove(self) -> None:
        self._server.close()
        # Connections that were being accepted come up a little later.
        for _ in range(3):
            await asyncio.sleep(0.05)
            self.cut()
            await asyncio.gather(*self._served)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        self._writers.add(writer)
        if not self.whole or self.target is None:
            writer.transport.abort()
            return
        host, port = self.target.rsplit(":", 1)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._writers.add(far_writer)
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            for each in (writer, far_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()


async def test_when_two_gave_each_other_up_exactly_one_yields(start: Any, until: Any) -> None:
    cable_a, cable_b = Cable(), Cable()
    way_a, way_b = await cable_a.lay(), await cable_b.lay()
    try:
        a = await start("a", advertised=way_a)
        cable_a.target = a.address
        b = await start("b", way_a, advertised=way_b)
        cable_b.target = b.address
        await until(lambda: a.alive() == b.alive() == {"a", "b"}, "met through the cable")
        cable_a.cut()
        cable_b.cut()
        await until(lambda: a.seen()["b"] == b.seen()["a"] == NODE_STATE_LOST, "both noticed")
        cable_a.whole = cable_b.whole = True
        await until(lambda: a.alive() == b.alive() == {"a", "b"}, "met again")
        await asyncio.sleep(0.5)
        first, second = sorted((a, b), key=lambda member: member.node_id)
        assert (len(first.fenced), len(second.fenced)) == (0, 1)
    finally:
        await cable_a.remove()
        await cable_b.remove()


async def test_a_short_break_loses_nobody(start: Any, until: Any) -> None:
    cable = Cable()
    way = await cable.lay()
    try:
        a = await start("a", advertised=way)
        cable.target = a.address
        b = await start("b", way)
        await until(lambda: a.alive() == b.alive() == {"a", "b"})
        b_before, a_before = b.identity.incarnation, a.identity.incarnation
        for writer in list(cable._writers):
            writer.transport.abort()
        await asyncio.sleep(1.0)
        await until(lambda: a.alive() == b.alive() == {"a", "b"})
        assert (a.identity.incarnation, b.identity.incarnation) == (a_before, b_before)
        assert not a.fenced
        assert not b.fenced
    finally:
        await cable.remove()


async def test_news_travel_and_the_stuck_are_seen(start: Any, until: Any) -> None:
    a = await start("a")
    b = await start("b", a.address)
    await until(lambda: a.alive() == b.alive() == {"a", "b"})
    b.tell(state=NODE_STATE_DRAINING, state_reason="going home")
    await until(lambda: a.seen()["b"] == NODE_STATE_DRAINING)
    assert a.state_reason("b") == "going home"
    b.tell(state=NODE_STATE_ALIVE, state_reason="", completed_steps=3, pending_steps=2)
    await until(lambda: a.seen()["b"] == b.seen()["b"] == NODE_STATE_STUCK, "stuck in both views")
    assert "2 forward passes pending" in a.state_reason("b")
    b.tell(completed_steps=4, pending_steps=0)
    await until(lambda: a.seen()["b"] == b.seen()["b"] == NODE_STATE_ALIVE, "alive again")


async def test_a_pipeline_shows_everywhere_and_says_what_is_missing(
    start: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a")
    b = await start("b", a.address)
    c = await start("c", a.address)
    await until(lambda: all(member.alive() == ALL for member in (a, b, c)))
    pipeline = Pipeline(
        pipeline_id="p",
        epoch=1,
        state=PIPELINE_STATE_READY,
        stages=[
            Stage(node_ids=[a.node_id], segments=[Segment(first_layer=0, end_layer=2)]),
            Stage(node_ids=[b.node_id], segments=[Segment(first_layer=2, end_layer=6)]),
        ],
    )
    for member in (a, b):
        member.tell(pipelines=(pipeline,))

    def states(member: Any) -> list[int]:
        return [each.state for each in member.membership.topology().pipelines]

    await until(lambda: states(c) == [PIPELINE_STATE_READY])
    await b.die(monkeypatch)
    await until(lambda: states(a) == states(c) == [PIPELINE_STATE_DEGRADED], "degraded at both")
    assert "stage 1 (layers 2 to 5): node b is lost since" in c.membership.topology().pipelines[0].reason


async def test_watchers_get_the_present_view_then_the_newest(start: Any, until: Any) -> None:
    a = await start("a")
    async with rpc.make_channel(a.address) as channel:
        call = MembershipServiceStub(channel).WatchTopology(WatchTopologyRequest())
        first = (await call.read()).topology
        assert [node.name for node in first.nodes] == ["a"]
        slow = a.membership.watch()
        version = (await anext(slow)).version
        for number in range(20):
            a.tell(state=NODE_STATE_DRAINING, state_reason=f"reason {number}")
        newest = await anext(slow)
        assert newest.version == version + 20
        assert newest.nodes[0].state_reason == "reason 19"
        while (topology := (await call.read()).topology).nodes[0].state_reason != "reason 19":
            assert topology.version > first.version
        await a.leave()
        assert [each async for each in slow] == []
        call.cancel()


async def test_a_node_that_starts_or_stops_admits_nobody(start: Any, until: Any) -> None:
    a = await start("a", run=False)
    await a.server.start()
    b = await start("b", a.address)
    await asyncio.sleep(0.3)
    assert set(b.seen()) == {"b"}
    a.task = asyncio.create_task(a.membership.run())
    await until(lambda: a.alive() == b.alive() == {"a", "b"}, "b tried again")


async def test_an_id_in_use_is_found_free_when_its_owner_is_silent(start: Any) -> None:
    a = await start("a")
    node = Node(
        node_id="ffffffff-host", incarnation=5, name="host", version="0.1.0", endpoints=[Endpoint(host="::1", port=9)]
    )
    async with rpc.make_channel(a.address) as channel:
        stub = MembershipServiceStub(channel)
        await stub.Join(JoinRequest(node=node, cluster="test"))
        node.incarnation = 6
        await stub.Join(JoinRequest(node=node, cluster="test"))
        assert a.membership.node(node.node_id).incarnation == 6
        call = stub.Heartbeat()
        await call.write(HeartbeatRequest(node=node))

        async def beat() -> None:
            while True:
                await call.write(HeartbeatRequest(node=node))
                await asyncio.sleep(0.05)

        beating = asyncio.create_task(beat())
        other = Node()
        other.CopyFrom(node)
        other.incarnation = 7
        with pytest.raises(aio.AioRpcError) as refusal:
            await stub.Join(JoinRequest(node=other, cluster="test"))
        assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS
        beating.cancel()
        await asyncio.wait([beating])


async def test_who_was_cut_off_does_not_fence_the_others(start: Any, until: Any) -> None:
    a = await start("a")
    b = await start("b", a.address)
    c = await start("c", a.address)
    members = (a, b, c)
    await until(lambda: all(member.alive() == ALL for member in members))
    alone = FencedError("c was declared lost", Topology(nodes=[a.membership.node(a.node_id)]))
    c.membership._member.fenced(a.node_id, alone, c.identity.incarnation - 1)
    assert c.seen()["a"] == NODE_STATE_ALIVE
    c.membership._member.fenced(a.node_id, alone, c.identity.incarnation)
    assert c.seen()["a"] == NODE_STATE_LOST
    assert "cut off" in c.state_reason("a")
    await until(lambda: a.fenced and all(member.alive() == ALL for member in members), "a yields")
    await asyncio.sleep(0.5)
    assert [len(member.fenced) for member in members] == [1, 0, 0]


async def test_who_is_refused_for_long_yields_in_the_end(
    start: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await start("a")
    b = await start("b", a.address)
    c = await start("c", a.address)
    await until(lambda: all(member.alive() == ALL for member in (a, b, c)))
    before = c.identity.incarnation
    alone = FencedError("c was declared lost", Topology(nodes=[a.membership.node(a.node_id)]))
    monkeypatch.setattr(c.membership._member, "_timing", Timing(stubborn=0.0))
    c.membership._member.fenced(a.node_id, alone, before)
    assert c.fenced == ["c was declared lost"]
    assert c.identity.incarnation > before
    await until(lambda: all(member.alive() == ALL for member in (a, b, c)), "all met again")


def test_addresses_count_when_two_looks_agree(fake_time: Any, tmp_path: Path) -> None:
    hosts = ["10.0.0.1"]
    with Identity(tmp_path) as identity:
        local = LocalNode(
            identity=identity,
            name="a",
            version="0.1.0",
            endpoints=lambda: [Endpoint(host=host, port=1) for host in hosts],
            state=lambda: LocalState(NodeCapabilities(), NODE_STATE_ALIVE, "", 0, 0, ()),
            clock=fake_time.clock,
            timing=Timing(interfaces=5),
        )

        def later() -> bool:
            fake_time.now += 5
            return local.look()

        def told() -> list[str]:
            return [each.host for each in local.beat().node.endpoints]

        assert not later()
        hosts[:] = ["10.0.0.1", "10.0.0.2"]
        assert not local.look()
        assert not later()
        assert later()
        assert told() == ["10.0.0.1", "10.0.0.2"]
        hosts[:] = ["127.0.0.1"]
        assert not later()
        assert not later()
        assert told() == ["10.0.0.1", "10.0.0.2"]
        hosts[:] = ["10.0.0.3"]
        assert local.look(now=True)
        assert told() == ["10.0.0.3"]
