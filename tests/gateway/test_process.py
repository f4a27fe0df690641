"""A gateway in a process of its own: it serves, and no body that fits its limit keeps it from serving others."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from scripted_cluster import ScriptedNode

from gateway.limits import Limits
from tandem.settings import split_address

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
HEAD = b'{"model":"demo","messages":[{"role":"user","content":"Hi"}],'


@pytest.fixture
async def address(head: ScriptedNode, tmp_path: Path) -> AsyncIterator[str]:
    """Where a gateway in front of ``head`` listens."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "gateway",
            "--no-mdns",
            "--log-level",
            "warning",
            "--listen",
            "127.0.0.1:0",
            "--node",
            head.address,
        ),
        stdout=asyncio.subprocess.PIPE,
        env={**ENVIRONMENT, "XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        yield re.findall(r"listen=(\S+)", line.decode())[0]
    finally:
        process.terminate()
        await process.communicate()


def ask(address: str, path: str, body: bytes | None = None) -> int:
    """The status of one request."""
    connection = http.client.HTTPConnection(*split_address(address), timeout=60)
    try:
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


class Pulse:
    """Asks for ``/health`` again and again while it is entered; ``longest`` is the longest wait for an answer."""

    def __init__(self, address: str) -> None:
        self.longest = 0.0
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.is_set():
            begin = time.monotonic()
            ask(self._address, "/health")
            self.longest = max(self.longest, time.monotonic() - begin)
            self._over.wait(0.01)


def full(before: bytes, item: bytes, after: bytes) -> bytes:
    """As many items as the limit on bodies leaves room for."""
    room = Limits().body_bytes - len(HEAD + before + after)
    return HEAD + before + (item * (room // len(item)))[:-1] + after


HEAVY = {
    "lists": (full(b'"a":[', b"[],", b"]}"), 400),
    "objects": (full(b'"a":[', b"{},", b"]}"), 400),
    "numbers": (full(b'"a":[', b"1,", b"]}"), 400),
    "tools": (full(b'"tools":[', b'{"type":"function","function":{"name":"f"}},', b"]}"), 400),
    "a text": (full(b'"user":"', b"call(a, b), [c]: {d}\\n ", b'"}'), 200),
    "escapes": (full(b'"user":"', b'\\"', b'n"}'), 200),
    "just enough lists": (HEAD + b'"a":[' + b"[]," * 149_000 + b"0]}", 200),
}


@pytest.mark.parametrize(("body", "status"), HEAVY.values(), ids=HEAVY)
async def test_a_body_within_the_limit_keeps_nobody_waiting(address: str, body: bytes, status: int) -> None:
    """Parsed on the event loop, the first four took 4 to 17 seconds; now the longest wait is some 60 ms."""
    with Pulse(address) as pulse:
        await asyncio.to_thread(ask, address, "/health")
        assert await asyncio.to_thread(ask, address, "/v1/chat/completions", body) == status
    assert pulse.longest < 2
    assert await asyncio.to_thread(ask, address, "/v1/chat/completions", HEAD + b'"user":"x"}') == 200
