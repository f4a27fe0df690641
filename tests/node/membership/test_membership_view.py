"""The view of one node, with a clock turned by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cluster.timing import Timing
from node.cluster.view import Admission, Progress, View
from tandem.clock import Clock
from tandem.v1.membership_pb2 import (
    NODE_STATE_ALIVE,
    NODE_STATE_DRAINING,
    NODE_STATE_LOST,
    NODE_STATE_STUCK,
    HeartbeatRequest,
    Node,
)
from tandem.v1.types_pb2 import Endpoint

TIMING = Timing()


def node(name: str = "b", incarnation: int = 1, **more: Any) -> Node:
    return Node(node_id=f"id-{name}", name=name, incarnation=incarnation, **more)


def beat(which: Node, completed: int = 0, pending: int = 0) -> HeartbeatRequest:
    return HeartbeatRequest(node=which, completed_steps=completed, pending_steps=pending)


@pytest.fixture
def view(fake_time: Any) -> View:
    return View(clock=fake_time.clock, timing=TIMING)


def state(view: View) -> int:
    return view.nodes()[0].state


def test_silence_makes_lost_within_five_seconds_and_not_before_its_time(view: View, fake_time: Any) -> None:
    view.admit(node())
    fake_time.now += TIMING.silence - 0.1
    assert view.tick() == []
    assert state(view) == NODE_STATE_ALIVE
    fake_time.now += 0.2
    assert view.tick() == ["id-b"]
    assert state(view) == NODE_STATE_LOST
    assert view.nodes()[0].state_reason == "lost since 1970-01-01 00:16:43 UTC: no heartbeat for 3.5 s"
    assert view.tick() == []
    assert TIMING.silence + TIMING.tick < 5


def test_each_beat_puts_the_silence_off(view: View, fake_time: Any) -> None:
    view.admit(node())
    for _ in range(20):
        fake_time.now += TIMING.silence - 0.1
        assert view.hear(beat(node()))
        assert view.tick() == []


def test_a_broken_connection_makes_lost_within_two_seconds_unless_it_is_mended(view: View, fake_time: Any) -> None:
    view.admit(node())
    view.broke("id-b", "connection closed")
    fake_time.now += TIMING.suspicion - 0.1
    assert view.tick() == []
    view.admit(node())
    fake_time.now += 1
    assert view.tick() == []
    view.broke("id-b", "connection closed")
    fake_time.now += TIMING.suspicion + 0.1
    assert view.tick() == ["id-b"]
    assert view.nodes()[0].state_reason.endswith("connection closed")
    assert TIMING.suspicion + TIMING.tick < 2


def test_nobody_at_home_after_a_break_is_lost_at_once(view: View) -> None:
    view.admit(node())
    assert not view.unreachable("id-b", "connection refused")
    view.broke("id-b", "connection closed")
    assert view.unreachable("id-b", "connection refused")
    assert state(view) == NODE_STATE_LOST
    assert not view.unreachable("id-b", "connection refused")


def test_the_lost_stay_in_sight_for_ten_minutes_and_fenced_for_ever(view: View, fake_time: Any) -> None:
    view.admit(node())
    fake_time.now += 4
    view.tick()
    fake_time.now += TIMING.lost - 1
    view.tick()
    assert view.known("id-b")
    assert not view.live("id-b")
    fake_time.now += 2
    view.tick()
    assert not view.known("id-b")
    assert view.judge(node(incarnation=1)) is Admission.FENCED
    assert view.judge(node(incarnation=2)) is Admission.ADMITTED


def test_a_lost_incarnation_is_refused_and_a_new_one_is_alive(view: View, fake_time: Any) -> None:
    view.admit(node(incarnation=7))
    fake_time.now += 4
    view.tick()
    assert not view.hear(beat(node(incarnation=7)))
    assert not view.hear(beat(node(incarnation=8)))
    assert view.fenced("id-b")
    assert view.admit(node(incarnation=8))
    assert state(view) == NODE_STATE_ALIVE
    assert not view.fenced("id-b")
    assert view.hear(beat(node(incarnation=8)))


def test_who_was_away_itself_takes_the_lost_back_as_they_are(view: View, fake_time: Any) -> None:
    view.admit(node())
    fake_time.now += 4
    view.tick()
    view.forgive()
    assert view.judge(node()) is Admission.ADMITTED


def test_who_did_not_listen_does_not_blame_others(view: View, fake_time: Any) -> None:
    view.admit(node())
    view.broke("id-b", "reset")
    fake_time.now += 60
    view.excuse()
    assert view.tick() == []
    fake_time.now += TIMING.suspicion + 0.1
    assert view.tick() == ["id-b"]


def test_an_id_is_in_use_while_its_owner_lives(view: View, fake_time: Any) -> None:
    view.admit(node(incarnation=5))
    assert view.judge(node(incarnation=5)) is Admission.ADMITTED
    assert view.judge(node(incarnation=6)) is view.judge(node(incarnation=4)) is Admission.IN_USE
    view.broke("id-b", "reset")
    assert view.judge(node(incarnation=6)) is Admission.ADMITTED
    assert view.judge(node(incarnation=4)) is Admission.FENCED


def test_an_incarnation_grows_in_the_middle_of_a_stream_but_never_shrinks(view: View) -> None:
    view.admit(node(incarnation=5))
    assert view.hear(beat(node(incarnation=6)))
    assert not view.hear(beat(node(incarnation=5)))


def test_strangers_are_not_heard(view: View) -> None:
    assert not view.hear(beat(node()))
    assert view.nodes() == []


def test_beats_without_progress_are_stuck_and_progress_ends_it(view: View, fake_time: Any) -> None:
    view.admit(node())
    view.hear(beat(node(), completed=5, pending=0))
    for _ in range(20):
        fake_time.now += 1
        view.hear(beat(node(), completed=5, pending=0))
    assert state(view) == NODE_STATE_ALIVE
    for _ in range(8):
        view.hear(beat(node(), completed=5, pending=3))
        assert state(view) == NODE_STATE_ALIVE
        fake_time.now += TIMING.stuck / 8
    assert state(view) == NODE_STATE_STUCK
    assert view.nodes()[0].state_reason == "3 forward passes pending and none finished for 4 s"
    view.hear(beat(node(), completed=6, pending=3))
    assert state(view) == NODE_STATE_ALIVE
    assert view.nodes()[0].state_reason == ""


def test_a_long_step_within_its_own_time_is_not_stuck(view: View, fake_time: Any) -> None:
    """As a prefill step of many tokens on a slow machine; one that overruns its time is stuck all the same."""
    view.admit(node())
    long = HeartbeatRequest(node=node(), completed_steps=5, pending_steps=3, step_seconds=30)
    view.hear(long)
    for _ in range(29):
        fake_time.now += 1
        view.hear(long)
        assert state(view) == NODE_STATE_ALIVE
    fake_time.now += 1
    view.hear(long)
    assert state(view) == NODE_STATE_STUCK
    assert view.nodes()[0].state_reason == "3 forward passes pending and none finished for 30 s"
    view.hear(beat(node(), completed=6, pending=2))
    assert state(view) == NODE_STATE_ALIVE
    fake_time.now += TIMING.stuck
    view.hear(beat(node(), completed=6, pending=2))
    assert state(view) == NODE_STATE_STUCK
    assert TIMING.stuck + TIMING.beat < 5


def test_a_late_goodbye_does_not_remove_who_is_back(view: View) -> None:
    view.admit(node(incarnation=2))
    assert not view.remove("id-b", 1)
    assert not view.remove("id-b", 0)
    assert view.live("id-b")
    assert not view.departed("id-b")
    assert view.remove("id-b", 3)
    assert view.departed("id-b")


def test_what_a_node_says_of_itself_counts(view: View) -> None:
    view.admit(node())
    view.hear(beat(node(state=NODE_STATE_DRAINING, state_reason="stopping")))
    assert (state(view), view.nodes()[0].state_reason) == (NODE_STATE_DRAINING, "stopping")
    view.hear(beat(node(state=NODE_STATE_STUCK, state_reason="the MLX thread hangs")))
    assert (state(view), view.nodes()[0].state_reason) == (NODE_STATE_STUCK, "the MLX thread hangs")


def test_who_leaves_is_gone_and_its_absence_is_remembered(view: View, fake_time: Any) -> None:
    view.admit(node())
    assert view.remove("id-b", 1)
    assert not view.remove("id-b", 1)
    assert view.nodes() == []
    assert view.departed("id-b")
    assert not view.hear(beat(node()))
    fake_time.now += TIMING.lost + 1
    view.tick()
    assert not view.departed("id-b")


def test_the_address_that_answered_stands_first_and_foreign_zones_are_left_out(view: View) -> None:
    ways = [Endpoint(host=host, port=1) for host in ("10.0.0.2", "fe80::2%en9", "192.168.0.2")]
    view.admit(node(endpoints=ways))
    assert list(view.nodes()[0].endpoints) == ways
    view.prefer("id-b", "192.168.0.2:1")
    assert [each.host for each in view.nodes()[0].endpoints] == ["192.168.0.2", "10.0.0.2"]
    view.prefer("id-b", "[fe80::2%eth3]:1")
    assert [each.host for each in view.nodes()[0].endpoints] == ["fe80::2%eth3", "10.0.0.2", "192.168.0.2"]
    view.prefer("id-b", "mac-b.local:1")
    assert list(view.nodes()[0].endpoints) == ways
    assert view.addresses("id-b") == ("mac-b.local:1", "10.0.0.2:1", "[fe80::2]:1", "192.168.0.2:1")


def test_progress_counts_from_when_there_was_something_to_do(fake_time: Any) -> None:
    progress = Progress(fake_time.clock, 4)
    progress.note(0, 0)
    fake_time.now += 100
    progress.note(0, 1)
    fake_time.now += 3.9
    assert not progress.stuck()
    fake_time.now += 0.1
    assert progress.stuck()


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["join", "beat", "broke", "refused", "leave"]),
        st.sampled_from("xyz"),
        st.integers(1, 4),
        st.sampled_from([0.0, 0.3, 1.2, 4.0]),
    ),
    max_size=60,
)


@given(MOVES)
def test_a_lost_incarnation_never_comes_back(moves: list[tuple[str, str, int, float]]) -> None:
    now = [0.0]
    view = View(clock=Clock(monotonic=lambda: now[0], wall=lambda: now[0]), timing=TIMING)
    lost: dict[str, int] = {}
    for move, name, incarnation, pause in moves:
        who = node(name, incarnation)
        match move:
            case "join":
                if view.judge(who) is Admission.ADMITTED:
                    view.admit(who)
            case "beat":
                view.hear(beat(who))
            case "broke":
                view.broke(who.node_id, "broke")
            case "refused":
                view.unreachable(who.node_id, "refused")
            case "leave":
                view.remove(who.node_id, incarnation)
        now[0] += pause
        view.tick()
        nodes = view.nodes()
        assert len({each.node_id for each in nodes}) == len(nodes)
        for each in nodes:
            if each.state == NODE_STATE_LOST:
                lost[each.node_id] = max(lost.get(each.node_id, 0), each.incarnation)
            else:
                assert each.incarnation > lost.get(each.node_id, 0)
        assert {each.node_id for each in view.members()} == {each.node_id for each in nodes if view.live(each.node_id)}
