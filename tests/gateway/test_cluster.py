"""Finding the head of a model: following the cluster, failing over, loading what lies on disk."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from gateway_harness import Gateway, Start, chat_body
from scripted_cluster import ScriptedNode, content, node, pipeline, say, until

from gateway.limits import Limits
from tandem.discovery import Found
from tandem.errors import NotFoundError, OverloadedError
from tandem.v1 import membership_pb2, model_pb2, types_pb2

READY, LOADING = membership_pb2.PIPELINE_STATE_READY, membership_pb2.PIPELINE_STATE_LOADING
DEGRADED, UNLOADING = membership_pb2.PIPELINE_STATE_DEGRADED, membership_pb2.PIPELINE_STATE_UNLOADING


@pytest.fixture
async def other() -> AsyncIterator[ScriptedNode]:
    """A second node."""
    scripted = ScriptedNode()
    scripted.script = say(content("other"))
    await scripted.start()
    yield scripted
    await scripted.stop()


async def text_of(gateway: Gateway, **fields: Any) -> str:
    return (await gateway.chat(**fields))["choices"][0]["message"]["content"]


async def test_the_head_is_asked_not_the_node_that_was_named(
    gateway: Gateway, head: ScriptedNode, other: ScriptedNode
) -> None:
    nodes = [node(head.port), node(other.port, "n2")]
    head.show(pipeline("demo", head="n2"), nodes=nodes)

    async def arrived() -> bool:
        return await text_of(gateway) == "other"

    await until(arrived)
    assert other.requests


async def test_of_several_ways_to_a_head_one_that_answers_is_taken(start: Start, head: ScriptedNode) -> None:
    several = node(head.port)
    several.endpoints.insert(0, types_pb2.Endpoint(host="127.0.0.1", port=1))
    several.endpoints.append(types_pb2.Endpoint(host="::1", port=1))
    head.show(pipeline("demo"), nodes=[several])
    assert await text_of(await start()) == "Hello there."


async def test_a_node_that_goes_away_is_replaced_by_another(
    start: Start, head: ScriptedNode, other: ScriptedNode
) -> None:
    nodes = [node(head.port), node(other.port, "n2")]
    head.show(pipeline("demo", head="n2"), nodes=nodes)
    other.show(pipeline("demo", "new", head="n2"), nodes=nodes)
    gateway = await start()
    assert await text_of(gateway) == "other"
    await head.stop()

    async def moved() -> bool:
        return (await gateway.post("/v1/chat/completions", chat_body(model="new")))[0] == 200

    await until(moved)


async def test_a_head_that_restarts_is_dialled_anew(start: Start, head: ScriptedNode, other: ScriptedNode) -> None:
    shown = [pipeline("demo", head="n2")]
    head.show(*shown, nodes=[node(head.port), node(other.port, "n2")])
    gateway = await start()
    assert await text_of(gateway) == "other"
    await other.stop()
    again = ScriptedNode()
    again.script = say(content("again"))
    await again.start(other.port)
    assert await text_of(gateway) == "again"
    await again.stop()


async def test_without_a_node_that_answers_it_is_said_so(start: Start) -> None:
    gateway = await start(Limits(dial=0.2), nodes=("127.0.0.1:1",))
    error = await gateway.chat_error(503)
    assert "127.0.0.1:1" in error["message"]
    assert "127.0.0.1:1" in json.dumps((await gateway.get("/health"))[1])
    assert (await gateway.get("/v1/models"))[0] == 503
    assert (await gateway.session.get(gateway.base + "/")).status == 200


async def test_a_head_that_does_not_answer_is_named(start: Start, head: ScriptedNode) -> None:
    gone = node(1, "n2")
    head.show(pipeline("demo", head="n2"), nodes=[node(head.port), gone])
    gateway = await start(Limits(dial=0.2))
    status, answer, response = await gateway.post("/v1/chat/completions", chat_body())
    assert status == 503
    assert "name-of-n2" in answer["error"]["message"]
    assert response.headers["retry-after"] == "2"


async def test_all_who_wait_for_a_head_that_is_gone_wait_once(start: Start, head: ScriptedNode) -> None:
    head.show(pipeline("demo", head="n2"), nodes=[node(head.port), node(1, "n2")])
    gateway = await start(Limits(dial=0.5))
    async with asyncio.timeout(5):
        await asyncio.gather(*(gateway.chat_error(503) for _ in range(20)))


async def test_a_broken_connection_is_made_anew_once_for_all(
    start: Start, head: ScriptedNode, other: ScriptedNode
) -> None:
    head.show(pipeline("demo", head="n2"), nodes=[node(head.port), node(other.port, "n2")])
    gateway = await start()
    await text_of(gateway)
    for _ in range(3):
        await other.stop()
        other = ScriptedNode()
        await other.start(head.topology.nodes[1].endpoints[0].port)
        assert await asyncio.gather(*(text_of(gateway) for _ in range(20))) == ["Hello there."] * 20
    await other.stop()


async def test_a_way_that_breaks_gives_place_to_another(start: Start, head: ScriptedNode, other: ScriptedNode) -> None:
    third = ScriptedNode()
    third.script = other.script
    await third.start()
    twice = node(other.port, "n2")
    twice.endpoints.append(types_pb2.Endpoint(host="127.0.0.1", port=third.port))
    head.show(pipeline("demo", head="n2"), nodes=[node(head.port), twice])
    gateway = await start()
    assert await text_of(gateway) == "other"
    first, second = (other, third) if other.requests else (third, other)
    await first.stop()

    async def moved() -> bool:
        return (await gateway.post("/v1/chat/completions", chat_body()))[0] == 200

    await until(moved)
    assert second.requests
    await third.stop()


@pytest.mark.parametrize(
    ("state", "code", "retry"), [(LOADING, "model_loading", "5"), (DEGRADED, "model_degraded", "2")]
)
async def test_a_model_that_is_not_ready_says_why(
    gateway: Gateway, head: ScriptedNode, state: membership_pb2.PipelineState, code: str, retry: str
) -> None:
    head.show(pipeline("slow", state=state, reason="node b is missing"))

    async def unready() -> bool:
        return await gateway.status("/health") == 503

    await until(unready)
    status, answer, response = await gateway.post("/v1/chat/completions", chat_body(model="slow"))
    assert (status, answer["error"]["code"], response.headers["retry-after"]) == (503, code, retry)
    assert "node b is missing" in answer["error"]["message"]
    status, answer, _ = await gateway.get("/v1/models/slow")
    assert (status, answer["error"]["code"]) == (503, code)
    assert (await gateway.get("/v1/models"))[1]["data"] == []


async def test_a_ready_pipeline_is_preferred(start: Start, head: ScriptedNode) -> None:
    head.show(
        pipeline("demo", pipeline_id="a", state=DEGRADED, head="lost"),
        pipeline("demo", pipeline_id="b", state=UNLOADING, head="lost"),
        pipeline("demo", pipeline_id="c"),
    )
    assert await text_of(await start()) == "Hello there."


async def test_an_unknown_model_is_told_with_the_list(gateway: Gateway, head: ScriptedNode) -> None:
    head.entries = [entry("on-disk")]
    for stream in (False, True):
        error = await gateway.chat_error(404, model="nope", stream=stream)
        assert (error["code"], error["param"]) == ("model_not_found", None)
        assert all(name in error["message"] for name in ("nope", "demo", "org/model-4bit", "on-disk"))
    assert (await gateway.post("/v1/completions", {"model": "nope", "prompt": "x"}))[0] == 404
    assert not head.loads


def entry(*names: str, on_disk: bool = True) -> model_pb2.ModelEntry:
    return model_pb2.ModelEntry(
        model=types_pb2.ModelRef(model_id=f"hub/{names[0]}", revision="r1"),
        on_disk_node_ids=["n1"] if on_disk else [],
        context_tokens=4096,
        served_names=names,
    )


def loading(head: ScriptedNode, gate: asyncio.Event, *names: str) -> Callable[[], AsyncIterator[Any]]:
    """A load that takes until ``gate`` is set."""

    async def load() -> AsyncIterator[model_pb2.LoadModelResponse]:
        yield model_pb2.LoadModelResponse(plan=model_pb2.Plan())
        await gate.wait()
        loaded = pipeline(*names, pipeline_id="p2")
        head.show(pipeline("demo"), loaded)
        yield model_pb2.LoadModelResponse(ready=loaded)

    return load


async def test_a_model_on_disk_is_loaded_once_for_all_who_ask(gateway: Gateway, head: ScriptedNode) -> None:
    head.entries = [entry("gone", on_disk=False), entry("big", "big-too")]
    gate = asyncio.Event()
    head.on_load = loading(head, gate, "big", "big-too")
    names = ["big", "big-too", "big", "big"]
    asking = [asyncio.create_task(gateway.chat(model=name)) for name in names]
    await until(lambda: head.loads)
    assert (await gateway.chat())["model"] == "demo"
    gate.set()
    answers = await asyncio.gather(*asking)
    assert [answer["model"] for answer in answers] == names
    assert [load.model for load in head.loads] == [entry("big").model]
    assert (await gateway.chat_error(404, model="gone"))["code"] == "model_not_found"


async def beats(response: aiohttp.ClientResponse, count: int) -> None:
    for _ in range(count):
        line = await response.content.readuntil(b"\n\n")
        assert json.loads(line[6:])["choices"][0]["finish_reason"] is None


async def test_a_stream_beats_while_its_model_loads(start: Start, head: ScriptedNode) -> None:
    gateway = await start(Limits(heartbeat=0.05))
    head.entries = [entry("big")]
    gate = asyncio.Event()
    head.on_load = loading(head, gate, "big")
    url, body = gateway.base + "/v1/chat/completions", chat_body(model="big", stream=True)
    async with gateway.session.post(url, json=body) as response:
        assert response.status == 200
        await beats(response, 4)
        assert not head.requests
        gate.set()
        rest = (await response.read()).decode()
    assert '"content":"Hello"' in rest
    assert rest.endswith("data: [DONE]\n\n")


async def test_a_load_goes_on_when_the_one_who_asked_has_gone(start: Start, head: ScriptedNode) -> None:
    gateway = await start(Limits(heartbeat=0.05))
    head.entries = [entry("big")]
    gate = asyncio.Event()
    head.on_load = loading(head, gate, "big")
    url, body = gateway.base + "/v1/chat/completions", chat_body(model="big", stream=True)
    async with gateway.session.post(url, json=body) as response:
        await beats(response, 1)
    head.show(pipeline("demo"), pipeline("big", pipeline_id="p2", state=LOADING))
    async with gateway.session.post(url, json=body) as response:
        await beats(response, 2)
        gate.set()
        assert b'"content":"Hello"' in await response.read()
    assert len(head.loads) == 1


async def test_a_load_whose_news_never_arrive_is_not_waited_for(
    start: Start, head: ScriptedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cluster.client._SETTLE_SECONDS", 0.1)
    gateway = await start()
    head.entries = [entry("big")]

    async def load() -> AsyncIterator[model_pb2.LoadModelResponse]:
        yield model_pb2.LoadModelResponse(ready=pipeline("big", state=LOADING))

    head.on_load = load
    assert (await gateway.chat_error(503, model="big"))["code"] == "model_loading"


async def test_a_load_that_ends_early_is_told(gateway: Gateway, head: ScriptedNode) -> None:
    head.entries = [entry("big")]

    async def load() -> AsyncIterator[model_pb2.LoadModelResponse]:
        yield model_pb2.LoadModelResponse(plan=model_pb2.Plan())

    head.on_load = load
    assert (await gateway.chat_error(503, model="big"))["code"] == "model_loading"


async def test_what_is_served_is_known_without_a_list(gateway: Gateway, head: ScriptedNode) -> None:
    head.entries = None
    assert [model["id"] for model in (await gateway.get("/v1/models"))[1]["data"]] == ["demo", "org/model-4bit"]
    assert "ListModels" not in (await gateway.chat_error(500, model="nope"))["message"]


async def test_a_model_that_does_not_fit_is_not_retried(start: Start, head: ScriptedNode) -> None:
    gateway = await start(Limits(heartbeat=0.05))
    head.entries = [entry("big")]

    async def load() -> AsyncIterator[model_pb2.LoadModelResponse]:
        raise OverloadedError("needs 40 GB, 12 GB are free")
        yield model_pb2.LoadModelResponse()

    head.on_load = load
    status, answer, response = await gateway.post("/v1/chat/completions", chat_body(model="big"))
    assert (status, answer["error"]["code"]) == (503, "insufficient_memory")
    assert "needs 40 GB" in answer["error"]["message"]
    assert response.headers["x-should-retry"] == "false"
    assert (await gateway.chat_error(503, model="big", stream=True))["code"] == "insufficient_memory"
    assert len(head.loads) == 2

    async def fetch() -> AsyncIterator[model_pb2.LoadModelResponse]:
        raise OverloadedError("40 GB are to be fetched", retry_after=0, code="insufficient_storage")
        yield model_pb2.LoadModelResponse()

    head.on_load = fetch
    assert (await gateway.chat_error(503, model="big"))["code"] == "insufficient_storage"


async def test_loads_that_fail_late_are_told_in_band(start: Start, head: ScriptedNode) -> None:
    gateway = await start(Limits(heartbeat=0.05, load_idle=0.2))
    head.entries = [entry("big")]
    head.on_load = loading(head, asyncio.Event(), "big")
    events = await gateway.events("/v1/chat/completions", chat_body(model="big"))
    assert events[-1]["error"]["code"] == "model_loading"

    async def vanish() -> AsyncIterator[model_pb2.LoadModelResponse]:
        yield model_pb2.LoadModelResponse(plan=model_pb2.Plan())
        raise NotFoundError("the files went away")

    head.on_load = vanish
    assert "went away" in (await gateway.chat_error(404, model="big"))["message"]


async def test_models_on_disk_are_listed_with_their_context(gateway: Gateway, head: ScriptedNode) -> None:
    head.entries = [entry("demo"), entry("big"), entry("gone", on_disk=False)]
    listed = {model["id"]: model for model in (await gateway.get("/v1/models"))[1]["data"]}
    assert list(listed) == ["demo", "org/model-4bit", "big"]
    assert (listed["demo"]["loaded"], listed["big"]["loaded"]) == (True, False)
    assert listed["big"]["context_length"] == listed["big"]["max_model_len"] == 4096
    assert (await gateway.get("/v1/models/big"))[0] == 200
    assert not head.loads


async def test_announced_nodes_are_found(start: Start, head: ScriptedNode) -> None:
    asked: list[str] = []
    announced = asyncio.Event()

    async def browse(cluster: str) -> AsyncGenerator[Found]:
        asked.append(cluster)
        await announced.wait()
        yield Found("gone", ("127.0.0.1",), 1)
        yield Found("n1", ("127.0.0.1", "::1"), head.port)
        await asyncio.Event().wait()

    gateway = await start(Limits(dial=0.2), nodes=(), mdns=True, cluster="home", browse=browse)
    assert (await gateway.get("/health"))[0] == 503
    announced.set()

    async def healthy() -> bool:
        return await gateway.status("/health") == 200

    await until(healthy)
    assert asked == ["home"]
    assert await text_of(gateway) == "Hello there."


async def test_the_fingerprint_follows_the_checkpoint(gateway: Gateway, head: ScriptedNode) -> None:
    first = (await gateway.chat())["system_fingerprint"]
    assert (await gateway.chat())["system_fingerprint"] == first
    changed = pipeline("demo")
    changed.model.revision = "def"
    head.show(changed)

    async def changes() -> bool:
        return (await gateway.chat())["system_fingerprint"] != first

    await until(changes)
