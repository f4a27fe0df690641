"""A node that was started again waits for those it was with, before it takes its view for whole."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from node.cluster.identity import Identity
from tandem.errors import SettingsError


async def seconds_until_settled(member: Any) -> float:
    begin = time.monotonic()
    await member.membership.settled()
    return time.monotonic() - begin


async def test_a_new_node_waits_for_nobody(start: Any) -> None:
    a = await start("a")
    assert await seconds_until_settled(a) < 0.1


async def test_a_node_that_is_back_waits_until_it_has_heard_those_it_was_with(
    start: Any, until: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a = await start("a")
    b = await start("b", a.address)
    await until(lambda: a.alive() == b.alive() == {"a", "b"})
    await until(lambda: a.identity.members == {b.node_id}, "it is remembered")
    await a.die(monkeypatch)
    back = await start("a", identity=Identity(tmp_path / "a-0"))
    assert back.identity.members == {b.node_id}
    waiting = asyncio.create_task(back.membership.settled())
    await asyncio.sleep(0.2)
    assert not waiting.done()
    b.hints.told(back.membership.node(back.node_id))
    await waiting
    assert b.node_id in {node.node_id for node in back.membership.topology().nodes}


async def test_who_does_not_come_back_is_not_waited_for_long(start: Any, tmp_path: Path) -> None:
    with Identity(tmp_path / "a-0") as identity:
        identity.remember(["0f8fad5b-d9cb-469f-a165-70867728950e"])
    a = await start("a", identity=Identity(tmp_path / "a-0"))
    assert 0.5 < await seconds_until_settled(a) < 5
    await asyncio.sleep(0.3)
    assert a.identity.members == frozenset()


async def test_who_left_is_forgotten(start: Any, until: Any) -> None:
    a = await start("a")
    b = await start("b", a.address)
    await until(lambda: a.identity.members == {b.node_id})
    await b.leave()
    await until(lambda: a.identity.members == frozenset())


def test_members_are_kept_in_the_folder(tmp_path: Path) -> None:
    ids = {"0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
    with Identity(tmp_path) as identity:
        assert identity.members == frozenset()
        identity.remember(ids)
        incarnation = identity.incarnation
    record = json.loads((tmp_path / "node.json").read_text())
    assert set(record["members"]) == ids
    assert record["incarnation"] == incarnation
    with Identity(tmp_path) as identity:
        assert identity.members == ids
    (tmp_path / "node.json").write_text(json.dumps(record | {"members": ["nobody"]}))
    with pytest.raises(SettingsError, match="damaged"):
        Identity(tmp_path)
    del record["members"]
    (tmp_path / "node.json").write_text(json.dumps(record))
    with Identity(tmp_path) as identity:
        assert (identity.node_id, identity.members) == (record["node_id"], frozenset())
