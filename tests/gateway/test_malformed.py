"""Three hundred bad bodies: each is a 4xx in OpenAI's shape, and the next good request works."""

import asyncio
import json
import re

import pytest
from aiohttp import compression_utils
from gateway_harness import Gateway, Start
from malformed_bodies import GOOD, PATHS, bodies
from scripted_cluster import HELLO, ScriptedNode

from gateway.limits import Limits
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2


async def test_bad_bodies_are_the_callers_mistake(gateway: Gateway, head: ScriptedNode) -> None:
    for kind, good in GOOD.items():
        assert (await gateway.post(PATHS[kind], good))[0] == 200
    head.requests.clear()
    tried = bodies()
    assert len(set(tried)) >= 300
    for number, (kind, body) in enumerate(tried):
        status, answer, response = await gateway.post(PATHS[kind], body)
        shown = (body[:300], answer)
        assert 400 <= status < 500, shown
        assert set(answer) == {"error"}, shown
        assert set(answer["error"]) == {"message", "type", "param", "code"}, shown
        assert answer["error"]["type"] == "invalid_request_error", shown
        assert answer["error"]["message"], shown
        assert response.headers["x-request-id"].startswith("req_")
        if number % 20 == 0:
            assert (await gateway.chat())["choices"][0]["message"]["content"] == "Hello there."
    assert all(request.model == "demo" for request in head.requests)
    assert len(head.requests) == len(range(0, len(tried), 20))


async def test_a_template_that_raises_is_the_callers_mistake(gateway: Gateway, head: ScriptedNode) -> None:
    async def refuse(_request: generation_pb2.GenerateRequest):
        raise InvalidRequestError("Conversation roles must alternate", param="messages")
        yield []

    head.script = refuse
    for stream in (False, True):
        error = await gateway.chat_error(400, stream=stream)
        assert error["param"] == "messages"
        assert "alternate" in error["message"]
    head.script = HELLO
    assert await gateway.chat()


def sent(headers: str, *, line: str = "POST /v1/chat/completions HTTP/1.1", body: str = "abcd") -> bytes:
    return f"{line}\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()


BROKEN = {
    "no HTTP": (b"not HTTP at all\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "method": (sent("", line="BREW / HTTP/1.1"), 400),
    "version": (sent("", line="GET / HTTP/3.7"), 400),
    "URL": (sent("", line=f"GET /{'a' * 20_000} HTTP/1.1"), 400),
    "URL's host": (sent("", line="GET http://[::bad/ HTTP/1.1"), 400),
    "header": (sent(f"Authorization: Bearer {'secret' * 4_000}\r\n"), 400),
    "headers": (sent("A: a\r\n" * 500), 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "length": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
    "two lengths": (sent("Content-Length: 5\r\n"), 400),
    "two framings": (sent("Transfer-Encoding: chunked\r\n", body="0\r\n\r\n"), 400),
    "chunk": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
    "gzip": (sent("Content-Encoding: gzip\r\n"), 400),
    "packing": (sent("Content-Encoding: lzma\r\n"), 415),
    "packings": (sent("Content-Encoding: gzip, gzip\r\n"), 415),
    "expectation": (sent("Expect: banana\r\n"), 417),
    "expectation elsewhere": (sent("Expect: banana\r\n", line="POST /nope HTTP/1.1"), 417),
}
if not compression_utils.HAS_BROTLI:
    BROKEN["brotli"] = (sent("Content-Encoding: br\r\n"), 415)
if not compression_utils.HAS_ZSTD:
    BROKEN["zstd"] = (sent("Content-Encoding: zstd\r\n"), 415)


@pytest.mark.parametrize(("body", "status"), BROKEN.values(), ids=BROKEN)
async def test_broken_http_is_told_in_one_shape_and_harms_nobody_else(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, body: bytes, status: int
) -> None:
    host, port = gateway.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with caplog.at_level("INFO"):
        writer.write(body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        text = await reader.readexactly(int(re.findall(r"(?im)^content-length: (\d+)", head)[0]))
        writer.close()
        await writer.wait_closed()
        assert await gateway.chat()
    assert f" {status} " in head.splitlines()[0]
    (request_id,) = re.findall(r"(?im)^x-request-id: (req_\w+)\r$", head)
    assert re.search(r"(?im)^content-type: application/json", head)
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == (
        "invalid_request_error",
        "unsupported_encoding" if status == 415 else "bad_request",
    )
    assert "\n" not in error["message"]
    assert "secret" not in error["message"] + caplog.text
    assert [record.levelname for record in caplog.records if request_id in record.getMessage()] == ["INFO"]
    assert "Traceback" not in caplog.text


async def test_a_body_that_breaks_off_in_the_middle_ends_with_the_time_for_it(start: Start) -> None:
    gateway = await start(Limits(upload=0.3))
    host, port = gateway.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    await asyncio.sleep(0.1)
    writer.write(b"zz\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    text = await reader.readuntil(b"}}")
    writer.close()
    assert b" 408 " in head.splitlines()[0]
    assert json.loads(text)["error"]["code"] == "bad_request"
    assert await gateway.chat()
