"""What every response has, keys, limits, the page and health."""

import asyncio
import gzip
import json

import pytest
from gateway_harness import NAMES, Gateway, Start, chat_body
from scripted_cluster import ScriptedNode, pipeline, until

from gateway.limits import Limits
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
from tandem.v1 import generation_pb2, membership_pb2


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
