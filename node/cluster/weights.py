"""Bring what a stage needs from the hub to this node's disk: settings and headers first, then only its weight files."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection, Coroutine, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from node.cluster.catalog import Catalog
from node.cluster.costs import size_text
from node.cluster.hub import Hub, RemoteFile, Repository
from node.cluster.local_model import CONFIG_FILE, LocalModel, headers_file, known_headers, read_model, repository_folder
from node.cluster.transfer import partial_path, transfer
from node.engine.headers import WEIGHT_FILES, Headers, read_header
from tandem.errors import (
    CheckpointError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
    UnsupportedModelError,
    first_of,
)

Progress = Callable[[int, int], None]
"""Called in the event loop with the bytes that are here and the bytes that there will be."""

_SETTINGS = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
_TEMPLATES = ("templates/*.jinja", "additional_chat_templates/*.jinja")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRANSFERS = 4
_HEADERS_AT_ONCE = 8
_SPARE_BYTES = 64 * 1024 * 1024

S = TypeVar("S")
T = TypeVar("T")


class Weights:
    """Fetches models from the hub into its cache, which other programs share.

    Args:
        catalog: what is on disk, for near matches.
        hub_cache: the hub's cache.
        endpoint: the hub's address instead of ``HF_ENDPOINT``.
        retry_seconds: the pause before a transfer that broke off is taken up again; it doubles.
    """

    def __init__(
        self, catalog: Catalog, hub_cache: Path, *, endpoint: str | None = None, retry_seconds: float = 1.0
    ) -> None:
        self._catalog = catalog
        self._cache = hub_cache
        self._endpoint = endpoint
        self._retry_seconds = retry_seconds

    async def prepare(self, model_id: str, *, revision: str = "") -> LocalModel:
        """Bring everything of a model but its weights: configuration, tokenizer, templates, headers of weight files.

        What it returns suffices to build the skeleton, to plan, and to say which files a stage needs. Without a
        revision it is the hub's ``main`` of now; where the hub does not answer, what an earlier call brought. What is
        here of a commit is not asked for again. Cancelling ends it at once.

        Raises:
            NotFoundError: there is no such repository or revision; the message has near matches.
            PreconditionError: the owner of the model wants to be asked first.
            UnsupportedModelError: the repository has no weights that can be loaded.
            CheckpointError: a file is damaged; names it.
            OverloadedError: the disk is too full.
            UnavailableError: the hub does not answer and nothing is here.
        """
        if _COMMIT.fullmatch(revision) and (here := await asyncio.to_thread(self._prepared, model_id, revision)):
            return here
        try:
            async with Hub(self._endpoint) as hub:
                try:
                    repository = await hub.repository(model_id, revision or None)
                except NotFoundError as error:
                    near = [*await asyncio.to_thread(self._catalog.near, model_id), *await hub.search(model_id)]
                    hint = f"; near: {', '.join(dict.fromkeys(near))}" if near else ""
                    raise NotFoundError(error.message + hint, code=error.code) from error
                return await self._prepare(hub, repository, revision or "main")
        except UnavailableError:
            if here := await asyncio.to_thread(self._prepared, model_id, revision):
                return here
            raise

    async def fetch(
        self,
        model: LocalModel,
        files: Collection[str],
        *,
        headers: Headers | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Make the named weight files of a model be on this disk; those that are here and whole are not fetched again.

        An error or a cancellation, which ends it at once, keeps what came, and the next call goes on from there. Calls
        for the same files at a time, also of other processes, share the work. ``headers`` are the checkpoint's where
        they are known; else the folder must say.

        Raises:
            CheckpointError: a file is missing in a local folder, or came damaged and was removed; names it.
            OverloadedError: the disk is too full.
            UnavailableError: the hub does not answer, or a transfer breaks off again and again.
            NotFoundError: the hub no longer has the model.
        """
        present = await asyncio.to_thread(_present, model, files, headers)
        missing = [file for file in files if file not in present]
        done, total = sum(present.values()), 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, total)

        if not missing:
            total = done
            advance(0)
            return
        if not _is_snapshot(model.folder):
            raise CheckpointError(f"{model.folder / missing[0]} is missing or damaged")
        async with Hub(self._endpoint) as hub:
            repository = await hub.repository(model.model_id, model.revision)
            await asyncio.to_thread(_discard, [model.folder / name for name in missing])
            wanted = [_file(repository, name) for name in missing]
            total = done + sum(file.size for file in wanted)
            advance(0)
            await self._bring(hub, repository, wanted, advance)

    async def _prepare(self, hub: Hub, repository: Repository, revision: str) -> LocalModel:
        settings = [file for name, file in repository.files.items() if _is_setting(name)]
        weights = [file for name, file in repository.files.items() if fnmatchcase(name, WEIGHT_FILES)]
        if CONFIG_FILE not in repository.files or not weights:
            lacks = f"no {CONFIG_FILE}" if weights else f"no {WEIGHT_FILES}"
            raise UnsupportedModelError(f"{repository.model_id} has {lacks}: it is not in a format that mlx-lm loads")
        await self._bring(hub, repository, settings, lambda _: None)
        home = repository_folder(self._cache, repository.model_id)
        folder = home / "snapshots" / repository.commit
        headers = await asyncio.to_thread(_kept_headers, folder)
        if headers is None:
            parts = await _gather(hub.header, weights, _HEADERS_AT_ONCE)
            headers = Headers({name: tensor for part in parts for name, tensor in part.items()})
            await asyncio.to_thread(_write, headers_file(folder), headers.dump())
        if revision != repository.commit:
            await asyncio.to_thread(_write, home / "refs" / revision, repository.commit.encode())
        return await asyncio.to_thread(_read_snapshot, repository.model_id, folder)

    async def _bring(
        self, hub: Hub, repository: Repository, files: Iterable[RemoteFile], advance: Callable[[int], None]
    ) -> None:
        """Files into the snapshot, each through a blob that bears the name of its digest."""
        folder = repository_folder(self._cache, repository.model_id)
        snapshot, blobs = folder / "snapshots" / repository.commit, folder / "blobs"
        files = list(files)
        await asyncio.to_thread(_make_room, blobs, files)

        async def bring(file: RemoteFile) -> None:
            blob, place = blobs / file.etag, snapshot / file.name
            if await asyncio.to_thread(lambda: place.exists() or blob.exists()):
                advance(file.size)
            else:
                await transfer(hub, file, blob, advance, retry_seconds=self._retry_seconds)
            await asyncio.to_thread(_link, blob, place)

        await _gather(bring, files, _TRANSFERS)

    def _prepared(self, model_id: str, revision: str) -> LocalModel | None:
        """What an earlier ``prepare`` left on disk, or all of the model, whoever brought it."""
        found = self._catalog.cached(model_id, revision)
        if found is None or not (found.complete or _kept_headers(found.folder)):
            return None
        return found


def _is_setting(name: str) -> bool:
    patterns = _TEMPLATES if "/" in name else _SETTINGS
    return ".." not in name and any(fnmatchcase(name, pattern) for pattern in patterns)


def _file(repository: Repository, name: str) -> RemoteFile:
    if name not in repository.files:
        raise CheckpointError(f"{repository.model_id} has no file {name} at the hub")
    return repository.files[name]


def _is_snapshot(folder: Path) -> bool:
    return folder.parent.name == "snapshots" and bool(_COMMIT.fullmatch(folder.name))


def _read_snapshot(model_id: str, folder: Path) -> LocalModel:
    return read_model(model_id, folder, served_as=model_id, commit=folder.name)


def _kept_headers(folder: Path) -> Headers | None:
    """The headers that an earlier call kept; damaged ones are none."""
    try:
        return known_headers(folder)
    except CheckpointError:
        return None


def _present(model: LocalModel, files: Iterable[str], headers: Headers | None) -> dict[str, int]:
    """Those of the files that are here and as long as the headers say, and their sizes."""
    headers = headers or model.headers()
    present = {}
    for name in files:
        path = model.folder / name
        try:
            if read_header(path) == headers.of_file(name):
                present[name] = path.stat().st_size
        except CheckpointError:
            continue
    return present


def _discard(places: Iterable[Path]) -> None:
    """Remove files that are damaged, so that they are fetched again."""
    for place in places:
        if place.is_symlink():
            (place.parent / place.readlink()).unlink(missing_ok=True)
        place.unlink(missing_ok=True)


def _make_room(blobs: Path, files: Iterable[RemoteFile]) -> None:
    """Make the folder for blobs; raise OverloadedError unless what is still missing of the files fits on the disk."""
    blobs.mkdir(parents=True, exist_ok=True)
    missing = 0
    for file in files:
        blob = blobs / file.etag
        if not blob.exists():
            partial = partial_path(blob)
            missing += file.size - (partial.stat().st_size if partial.exists() else 0)
    free = shutil.disk_usage(blobs).free
    if missing + _SPARE_BYTES > free:
        raise OverloadedError(
            f"{size_text(missing)} are to be fetched to {blobs.parent}, where {size_text(free)} are free",
            retry_after=0,
            code="insufficient_storage",
        )


def _link(blob: Path, place: Path) -> None:
    """Show a blob in a snapshot, by a relative link as the hub's own programs do."""
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        link = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
        link.symlink_to(os.path.relpath(blob, place.parent))
        link.replace(place)


def _write(path: Path, content: bytes) -> None:
    """Write a small file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beginning = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    beginning.write_bytes(content)
    beginning.replace(path)


async def _gather(call: Callable[[S], Coroutine[Any, Any, T]], items: Iterable[S], at_once: int) -> list[T]:
    """Call for all items, so many at a time; the first failure ends the others, and its error is raised."""
    slots = asyncio.Semaphore(at_once)

    async def run(item: S) -> T:
        async with slots:
            return await call(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(item)) for item in items]
    except ExceptionGroup as errors:
        raise first_of(errors) from None
    return [task.result() for task in tasks]
