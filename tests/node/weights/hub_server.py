"""A small server that speaks as much of the hub's HTTP as a client of models needs, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web

MODEL = "owner/some-model"

_CHUNK = 16 * 1024


@dataclass
class Repo:
    """Files by name; those that end in ``.safetensors`` are large files, which live on another host."""

    files: dict[str, bytes]
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    gated: bool = False

    def etag(self, name: str) -> str:
        data = self.files[name]
        if name.endswith(".safetensors"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class HubServer:
    """What it serves and how; ``sent`` counts the bytes of bodies by file, ``seen`` has (path, authorization)."""

    repos: dict[str, Repo] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    allowance: int | None = None
    """Bytes of large files to send before every connection is cut in the middle."""
    corrupt: set[str] = field(default_factory=set)
    replace: dict[str, bytes] = field(default_factory=dict)
    """Other bytes to send than those that were announced."""
    no_ranges: bool = False
    stall_at: int | None = None
    """Where in a large file to wait for ``stalled`` until more is sent."""
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    broken_search: bool = False
    failures: int = 0
    """Requests for files to answer with 503 first."""
    url: str = ""
    port: int = 0

    @property
    def weight_bytes(self) -> int:
        return sum(count for name, count in self.sent.items() if name.endswith(".safetensors"))

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/models", self._search)
        app.router.add_get("/api/models/{id:.+}/revision/{revision}", self._info)
        app.router.add_get("/{id:.+}/resolve/{revision}/{file:.+}", self._resolve)
        app.router.add_get("/cdn/{id:.+}/at/{file:.+}", self._large_file)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    def _note(self, request: web.Request) -> None:
        self.seen.append((request.path, request.headers.get("Authorization")))

    async def _search(self, request: web.Request) -> web.Response:
        self._note(request)
        if self.broken_search:
            return web.Response(status=500)
        words = request.query["search"].lower()
        return web.json_response([{"id": name} for name in self.repos if words[:4] in name.lower()])

    async def _info(self, request: web.Request) -> web.Response:
        self._note(request)
        repo = self.repos.get(request.match_info["id"])
        if repo is None:
            return web.json_response({"error": "no"}, status=401, headers={"X-Error-Code": "RepoNotFound"})
        if repo.gated:
            return web.json_response({"error": "ask"}, status=403, headers={"X-Error-Code": "GatedRepo"})
        if request.match_info["revision"] not in ("main", repo.commit):
            return web.json_response({"error": "no"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, data in repo.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": repo.etag(name)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": repo.etag(name), "size": len(data), "pointerSize": 130}
                entry["blobId"] = "f" * 40
            siblings.append(entry)
        return web.json_response({"id": request.match_info["id"], "sha": repo.commit, "siblings": siblings})

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        if self.failures > 0:
            self.failures -= 1
            return web.Response(status=503)
        repo, name = self.repos[request.match_info["id"]], request.match_info["file"]
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if name not in repo.files:
            return web.Response(status=404, headers={**headers, "X-Error-Code": "EntryNotFound"})
        if name.endswith(".safetensors"):
            size = str(len(repo.files[name]))
            linked = {"X-Linked-Etag": f'"{repo.etag(name)}"', "X-Linked-Size": size}
            other = f"http://localhost:{self.port}/cdn/{request.match_info['id']}/at/{name}"
            return web.Response(status=302, headers={**headers, **linked, "Location": other})
        return await self._send(request, name, repo.files[name], {**headers, "ETag": f'"{repo.etag(name)}"'})

    async def _large_file(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        name = request.match_info["file"]
        return await self._send(request, name, self.repos[request.match_info["id"]].files[name], {})

    async def _send(self, request: web.Request, name: str, data: bytes, headers: dict[str, str]) -> web.StreamResponse:
        data = self.replace.get(name, data)
        if name in self.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start, end, status = 0, len(data), 200
        if not self.no_ranges and (wanted := request.headers.get("Range")):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(end, int(last) + 1) if last else end, 206
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(end - start)})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        large = name.endswith(".safetensors")
        for at in range(start, end, _CHUNK):
            piece = data[at : min(at + _CHUNK, end)]
            if large and self.allowance is not None:
                if self.allowance < len(piece):
                    assert request.transport is not None
                    request.transport.close()
                    return response
                self.allowance -= len(piece)
            if large and self.stall_at is not None and at >= self.stall_at:
                await self.stalled.wait()
            await response.write(piece)
            self.sent[name] += len(piece)
        return response


def safetensors(tensors: dict[str, bytes]) -> bytes:
    """A file of byte tensors."""
    entries, at = {}, 0
    for name, data in tensors.items():
        entries[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    header = json.dumps({"__metadata__": {"format": "mlx"}, **entries}).encode()
    return len(header).to_bytes(8, "little") + header + b"".join(tensors.values())


def some_model(seed: int = 0, sizes: tuple[int, ...] = (900_000, 1_100_000, 1_000_000)) -> dict[str, bytes]:
    """The files of a repository with one tensor in each weight file."""
    dice = random.Random(seed)
    weights = {
        f"model-{i + 1:05}-of-{len(sizes):05}.safetensors": safetensors({f"layers.{i}.w": dice.randbytes(size)})
        for i, size in enumerate(sizes)
    }
    index = {"metadata": {}, "weight_map": {f"layers.{i}.w": name for i, name in enumerate(weights)}}
    return {
        "config.json": json.dumps({"model_type": "llama", "max_position_embeddings": 2048}).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": b"{}",
        "chat_template.jinja": "{{ messages }} ✓".encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "README.md": b"# words",
        "modeling.py": b"raise SystemExit",
        "onnx/config.json": b"{}",
        "templates/other.jinja": b"{{ tools }}",
        **weights,
    }
