"""What every response has, keys, limits, the page and health."""

import asyncio
import gzip
import json
import threading
from typing import Any

import pytest
from gateway_harness import NAMES, Gateway, Start, chat_body
from scripted_cluster import ScriptedNode, pipeline, until

from gateway.handlers import chat
from gateway.handlers.answering import INLINE_BYTES
from gateway.limits import Limits
from gateway.openai.messages import MAX_MESSAGES
from gateway.openai.tools import MAX_TOOLS
from tandem.errors import (
    CheckpointError,
    ConflictError,
    ContextOverflowError,
    InvalidRequestError,
    OverloadedError,
    PreconditionError,
    SettingsError,
    StageLostError,
    TandemError,
    UnavailableError,
    UnsupportedModelError,
)
from tandem.v1 import generation_pb2, membership_pb2, model_pb2


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "unknown_url"),
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("GET", "/v1", 404, "unknown_url"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/demo", 405, "method_not_allowed"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
    ],
)
async def test_errors_have_one_shape(gateway: Gateway, method: str, path: str, status: int, code: str) -> None:
    async with gateway.session.request(method, gateway.base + path) as response:
        answer = await response.json()
        assert response.status == status
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert (answer["error"]["type"], answer["error"]["code"]) == ("invalid_request_error", code)
        assert response.headers["x-request-id"].startswith("req_")
        assert int(response.headers["openai-processing-ms"]) >= 0
        assert status != 405 or response.headers["Allow"]


async def test_request_ids_differ_and_streams_have_one(gateway: Gateway) -> None:
    seen = set()
    for stream in (False, True):
        async with gateway.session.post(
            gateway.base + "/v1/chat/completions", json=chat_body(stream=stream)
        ) as response:
            await response.read()
            seen.add(response.headers["x-request-id"])
            assert "openai-processing-ms" in response.headers
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"X-Client-Request-Id": "abc-1"}, "client=abc-1"),
        ({"x-request-id": "trace/7"}, "client=trace/7"),
        ({"X-Client-Request-Id": "abc-1", "x-request-id": "trace/7"}, "client=abc-1"),
        ({"X-Client-Request-Id": "a b\tü"}, "client=a?b??"),
        ({"X-Client-Request-Id": "x" * 5000}, f"client={'x' * 128}"),
    ],
)
async def test_the_log_has_the_clients_id_for_a_request(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, headers: dict[str, str], shown: str
) -> None:
    with caplog.at_level("INFO"):
        _, _, response = await gateway.get("/v1/models", headers=headers)
    own = response.headers["x-request-id"]
    assert own.startswith("req_")
    (line,) = [record.getMessage() for record in caplog.records if own in record.getMessage()]
    assert line.endswith(f" {own} {shown}")


async def test_a_path_cannot_write_lines_of_the_log(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert await gateway.status("/v1/%0A2026-01-01 forged") == 404
    assert [record.getMessage() for record in caplog.records if "\n" in record.getMessage()] == []


async def test_a_body_beyond_the_limit_is_413(start: Start) -> None:
    gateway = await start(Limits(body_bytes=100_000))
    big = chat_body(messages=[{"role": "user", "content": "x" * 100_000}])
    status, answer, _ = await gateway.post("/v1/chat/completions", big)
    assert (status, answer["error"]["code"]) == (413, "request_too_large")
    packed = gzip.compress(json.dumps(big).encode())
    status, answer, _ = await gateway.post("/v1/chat/completions", packed, headers={"Content-Encoding": "gzip"})
    assert status == 413
    assert await gateway.chat(messages=[{"role": "user", "content": "x" * 90_000}])


async def test_a_body_that_does_not_arrive_is_408(start: Start) -> None:
    gateway = await start(Limits(upload=0.1))
    host, port = gateway.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    answer = await reader.readuntil(b"}}")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"type": "invalid_request_error"' in answer


async def test_a_large_body_reaches_the_head_whole(gateway: Gateway, head: ScriptedNode) -> None:
    text = "word " * 2**20
    await gateway.chat(messages=[{"role": "user", "content": text}])
    assert head.request.conversation.messages[0].content[0].text == text


async def test_a_large_body_is_read_in_a_thread_and_a_small_one_is_not(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = chat.read_chat_request
    threads = []

    def note(*args: Any) -> Any:
        threads.append(threading.current_thread())
        return read(*args)

    monkeypatch.setattr("gateway.handlers.chat.read_chat_request", note)
    for length in (INLINE_BYTES // 2, 2 * INLINE_BYTES):
        await gateway.chat(user="x" * length)
        error = await gateway.chat_error(400, user="x" * length, temperature="hot")
        assert error["param"] == "temperature"
    assert [thread is threading.main_thread() for thread in threads] == [True, True, False, False]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": "x"}] * (MAX_MESSAGES + 1)}, "messages"),
        ({"tools": [{"type": "web_search"}] * (MAX_TOOLS + 1)}, "tools"),
        ({"functions": [{"name": "f"}] * (MAX_TOOLS + 1)}, "functions"),
    ],
)
async def test_amounts_are_bounded(gateway: Gateway, fields: dict[str, Any], param: str) -> None:
    error = await gateway.chat_error(400, **fields)
    assert (error["param"], error["code"]) == (param, "invalid_value")
    bounded = {name: items[:-1] for name, items in fields.items()}
    assert await gateway.chat(**bounded)


async def test_a_packed_body_is_unpacked(gateway: Gateway) -> None:
    packed = gzip.compress(json.dumps(chat_body()).encode())
    assert (await gateway.post("/v1/chat/completions", packed, headers={"Content-Encoding": "gzip"}))[0] == 200


async def test_keys_are_asked_for_where_there_are_any(start: Start) -> None:
    gateway = await start(api_keys=("first", "second-ü"))
    for headers in (
        {"Authorization": "Bearer first"},
        {"authorization": "bearer second-ü"},
        {"x-api-key": "first"},
    ):
        assert (await gateway.post("/v1/chat/completions", chat_body(), headers=headers))[0] == 200
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer firs"},
        {"Authorization": "Bearer firstt"},
        {"Authorization": "Basic first"},
        {"Authorization": "first"},
        {"Authorization": "Bearer "},
        {"x-api-key": ""},
    ):
        for path in ("/v1/chat/completions", "/v1/nope"):
            status, answer, response = await gateway.post(path, chat_body(), headers=headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key"), headers
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert "first" not in json.dumps(answer)
    assert (await gateway.get("/health"))[0] == 200
    assert (await gateway.session.get(gateway.base + "/")).status == 200
    assert (await gateway.get("/v1/models"))[0] == 401


async def test_listening_beyond_this_machine_needs_a_key(start: Start) -> None:
    with pytest.raises(SettingsError):
        await start(listen="0.0.0.0:0")
    assert (await start(listen="0.0.0.0:0", insecure=True)).base


async def test_a_taken_port_is_one_clear_error(start: Start, gateway: Gateway) -> None:
    address = gateway.base.removeprefix("http://")
    with pytest.raises(ConflictError, match=address):
        await start(listen=address)


async def test_an_address_of_another_machine_is_one_clear_error(start: Start) -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        await start(listen="192.0.2.1:1", insecure=True)


async def test_the_page_says_how_to_point_a_client_here(gateway: Gateway) -> None:
    async with gateway.session.get(gateway.base + "/") as response:
        text = await response.text()
        assert response.content_type == "text/html"
    assert f"{gateway.base}/v1" in text
    assert all(name in text for name in NAMES)
    async with gateway.session.head(gateway.base + "/") as response:
        assert response.status == 200
        assert await response.read() == b""


async def test_names_on_the_page_are_escaped(gateway: Gateway, head: ScriptedNode) -> None:
    head.show(pipeline("<script>"))

    async def renamed() -> bool:
        return (await gateway.get("/v1/models"))[1]["data"][0]["id"] == "<script>"

    await until(renamed)
    async with gateway.session.get(gateway.base + "/") as response:
        text = await response.text()
    assert "&lt;script&gt;" in text
    assert "<script>" not in text


async def test_the_page_says_what_health_says(gateway: Gateway, head: ScriptedNode) -> None:
    async def shows(*words: str, without: str = "") -> None:
        async def is_so() -> bool:
            async with gateway.session.get(gateway.base + "/") as response:
                text = await response.text()
            return all(word in text for word in words) and not (without and without in text)

        await until(is_so)

    await shows("These models answer:", *NAMES, without="No model answers")
    head.show(pipeline("demo", state=membership_pb2.PIPELINE_STATE_DEGRADED, reason="node b is lost"))
    await shows("No model answers now:", "demo is degraded: node b is lost", without="These models answer")
    head.entries = [model_pb2.ModelEntry(served_names=["other"], on_disk_node_ids=["n1"])]
    head.show()
    await shows("no model is loaded", "loaded when asked for:", "<code>other</code>", without="These models answer")
    head.show(pipeline("demo"))
    await shows("These models answer:</p>\n<ul><li><code>demo</code></li></ul>", "loaded when asked for:")
    await head.stop()
    await shows("No model answers now:", "does not answer")


async def test_without_a_key_the_page_and_health_name_nothing(start: Start, head: ScriptedNode) -> None:
    gateway = await start(api_keys=("k",))
    shown = {"Authorization": "Bearer k"}

    async def read(path: str, **kwargs: Any) -> str:
        async with gateway.session.get(gateway.base + path, **kwargs) as response:
            return await response.text()

    async def answers() -> bool:
        return "A model answers." in await read("/")

    await until(answers)
    public, private = await read("/"), await read("/", headers=shown)
    assert not any(name in public for name in NAMES)
    assert all(name in private for name in NAMES)
    head.show(pipeline("demo", state=membership_pb2.PIPELINE_STATE_DEGRADED, reason="node b is lost"))

    async def is_told() -> bool:
        return "node b is lost" in await read("/health", headers=shown)

    await until(is_told)
    assert json.loads(await read("/health")) == {"status": "unavailable", "missing": ["no model answers"]}
    page = await read("/")
    assert "No model answers now." in page
    assert "demo" not in page
    assert "node b" not in page
    assert "node b is lost" in await read("/", headers=shown)


async def test_health_says_what_is_missing_until_a_model_answers(gateway: Gateway, head: ScriptedNode) -> None:
    async def becomes(status: int, *words: str) -> None:
        async def is_so() -> bool:
            got, answer, _ = await gateway.get("/health")
            return got == status and all(word in json.dumps(answer) for word in words)

        await until(is_so)

    await becomes(200, "ok")
    head.show()
    await becomes(503, "no model is loaded")
    head.show(pipeline("demo", state=membership_pb2.PIPELINE_STATE_DEGRADED, reason="node b is lost"))
    await becomes(503, "demo is degraded: node b is lost")
    head.show(pipeline("demo", head="unknown"))
    await becomes(503, "p1")
    head.show(pipeline("broken", state=membership_pb2.PIPELINE_STATE_LOADING), pipeline("demo", pipeline_id="p2"))
    await becomes(200, "ok")
    await head.stop()
    await becomes(503, "does not answer")


async def test_models_have_ids_with_slashes(gateway: Gateway) -> None:
    status, answer, _ = await gateway.get("/v1/models")
    assert status == 200
    assert [model["id"] for model in answer["data"]] == list(NAMES)
    for name in NAMES:
        status, model, _ = await gateway.get(f"/v1/models/{name}")
        assert status == 200
        assert model in answer["data"]
        assert (model["object"], type(model["created"]), model["owned_by"]) == ("model", int, "tandem")
    status, model, _ = await gateway.get("/v1/models/org%2Fmodel-4bit")
    assert (status, model["id"]) == (200, "org/model-4bit")


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "headers"),
    [
        (InvalidRequestError("no", param="stop"), 400, "invalid_request_error", "invalid_value", {}),
        (ContextOverflowError("9 > 8"), 400, "invalid_request_error", "context_length_exceeded", {}),
        (UnsupportedModelError("no"), 400, "invalid_request_error", "unsupported_model", {}),
        (ConflictError("no"), 409, "invalid_request_error", "conflict", {}),
        (OverloadedError("full"), 429, "rate_limit_error", "rate_limit_exceeded", {"retry-after": "1"}),
        (UnavailableError("gone"), 503, "server_error", "unavailable", {"retry-after": "1"}),
        (StageLostError("gone"), 503, "server_error", "stage_lost", {"retry-after": "1"}),
        (PreconditionError("stale"), 503, "server_error", "failed_precondition", {"retry-after": "1"}),
        (CheckpointError("bad file"), 500, "server_error", "bad_checkpoint", {"x-should-retry": "false"}),
        (TandemError("oops"), 500, "server_error", "internal_error", {}),
    ],
)
async def test_the_heads_refusals_have_their_status(
    gateway: Gateway, head: ScriptedNode, error: TandemError, status: int, kind: str, code: str, headers: dict[str, str]
) -> None:
    async def refuse(_request: generation_pb2.GenerateRequest):
        raise error
        yield []

    head.script = refuse
    for stream in (False, True):
        got, answer, response = await gateway.post("/v1/chat/completions", chat_body(stream=stream))
        assert got == status
        assert answer["error"] == {
            "message": error.message,
            "type": kind,
            "param": getattr(error, "param", None),
            "code": code,
        }
        assert all(response.headers[name] == value for name, value in headers.items())
    assert len(head.requests) == 2


async def test_a_bug_in_the_gateway_tells_nothing_of_itself(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr("gateway.handlers.chat.read_chat_request", broken)
    status, answer, _ = await gateway.post("/v1/chat/completions", chat_body())
    assert (status, answer["error"]["type"]) == (500, "server_error")
    assert "secret" not in json.dumps(answer)
    assert "secret words" in caplog.text
