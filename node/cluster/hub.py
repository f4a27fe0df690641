"""The Hugging Face hub's HTTP: what a repository holds, and bytes of its files.

``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` count. Every error is one of ours.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2
from huggingface_hub import constants, get_async_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import build_hf_headers, validate_repo_id

from node.engine.headers import TensorHeader, parse_header
from tandem.errors import CheckpointError, NotFoundError, PreconditionError, UnavailableError

_FIRST_READ = 128 * 1024
_LARGEST_HEADER = 256 * 1024 * 1024
_SEARCH_SECONDS = 3.0

_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")

AsyncBytes = AsyncIterator[bytes]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: where, how long, and the digest that its bytes must have.

    ``etag`` is the SHA-256 of a large file, else git's SHA-1 of a blob; the hub's cache names its blobs by it.
    """

    name: str
    url: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Repository:
    """One commit of a model's repository and its files by name."""

    model_id: str
    commit: str
    files: Mapping[str, RemoteFile]


class Hub:
    """A session with the hub; an async context manager, open while requests run. Cancelling a call ends its request.

    Args:
        endpoint: the hub's address instead of ``HF_ENDPOINT``.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint: str = (endpoint or constants.ENDPOINT).rstrip("/")
        self._timeout: float = constants.HF_HUB_DOWNLOAD_TIMEOUT
        self._client: httpx2.AsyncClient = get_async_session()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def repository(self, model_id: str, revision: str | None = None) -> Repository:
        """What the repository holds at a revision (a branch, a tag or a commit), without one at ``main``.

        Raises:
            NotFoundError: there is no such repository or revision, or it is not for everybody.
            PreconditionError: its owner wants to be asked first.
            UnavailableError: the hub does not answer, or ``HF_HUB_OFFLINE`` is set.
        """
        with self._errors(model_id):
            validate_repo_id(model_id)
            url = f"{self.endpoint}/api/models/{model_id}/revision/{quote(revision or 'main', safe='')}"
            answer = await self._json(url, self._timeout, blobs="true")
        try:
            info = ModelInfo(**answer)
            if not _COMMIT.fullmatch(info.sha):
                raise ValueError(f"{info.sha!r} is no commit")
            files = {entry.rfilename: self._file(model_id, info.sha, entry) for entry in info.siblings or ()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnavailableError(f"{self.endpoint} describes {model_id} in no way that is known: {error}") from error
        return Repository(model_id, info.sha, files)

    async def search(self, words: str, *, most: int = 3) -> list[str]:
        """Ids of repositories that the hub finds for the words; none where it does not answer soon."""
        try:
            with self._errors(words):
                url = f"{self.endpoint}/api/models"
                found = await self._json(url, _SEARCH_SECONDS, search=words, limit=str(most), sort="downloads")
            return [str(entry["id"]) for entry in found][:most]
        except (NotFoundError, PreconditionError, UnavailableError, KeyError, TypeError) as error:
            _log.debug("the hub's search gave nothing: %s", error)
            return []

    async def header(self, file: RemoteFile) -> dict[str, TensorHeader]:
        """The tensors of a remote safetensors file; little more than its header is transferred.

        Raises:
            CheckpointError: the file is damaged; names it.
            UnavailableError: the hub does not answer.
        """
        start = await self._read(file, 0, min(_FIRST_READ, file.size)) if file.size else b""
        length = int.from_bytes(start[:8], "little")
        if not 2 <= length <= min(file.size - 8, _LARGEST_HEADER):
            raise CheckpointError(f"{file.name} is damaged: it is no safetensors file")
        if len(start) < 8 + length:
            start += await self._read(file, len(start), 8 + length)
        tensors, data = parse_header(file.name, start[8 : 8 + length])
        if 8 + length + data != file.size:
            raise CheckpointError(f"{file.name} is damaged: {file.size:,} bytes, {8 + length + data:,} expected")
        return tensors

    @contextlib.asynccontextmanager
    async def read(self, file: RemoteFile, start: int, end: int | None = None) -> AsyncIterator[tuple[int, AsyncBytes]]:
        """The bytes [start, end) of a file as they come, and where they begin: 0 if the server knows no ranges.

        Raises UnavailableError when the hub does not answer or the transfer breaks off.
        """
        headers = {
            **build_hf_headers(),
            "Accept-Encoding": "identity",
            "Range": f"bytes={start}-{'' if end is None else end - 1}",
        }
        with self._errors(file.name):
            async with self._client.stream("GET", file.url, headers=headers, timeout=self._timeout) as response:
                hf_raise_for_status(response)
                begins = start if response.status_code == 206 else 0
                if begins and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    raise UnavailableError(f"{self.endpoint} sent another part of {file.name} than it was asked for")
                yield begins, response.aiter_bytes()

    def _file(self, model_id: str, commit: str, entry: RepoSibling) -> RemoteFile:
        size, etag = (entry.lfs.size, entry.lfs.sha256) if entry.lfs else (entry.size, entry.blob_id)
        if not _ETAG.fullmatch(etag) or size < 0:
            raise ValueError(f"{entry.rfilename} has no digest or no size")
        url = hf_hub_url(model_id, entry.rfilename, revision=commit, endpoint=self.endpoint)
        return RemoteFile(entry.rfilename, url, size, etag)

    async def _read(self, file: RemoteFile, start: int, end: int) -> bytes:
        async with self.read(file, start, end) as (at, pieces):
            kept = bytearray()
            async for piece in pieces:
                kept += piece[max(0, start - at) : end - at]
                at += len(piece)
                if at >= end:
                    return bytes(kept)
        raise UnavailableError(f"{self.endpoint} sent too little of {file.name}")

    async def _json(self, url: str, timeout: float, **params: str) -> Any:
        response = await self._client.get(url, headers=build_hf_headers(), params=params, timeout=timeout)
        hf_raise_for_status(response)
        try:
            return response.json()
        except ValueError as error:
            raise UnavailableError(f"{url} answers with something else than JSON") from error

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn the hub's errors into ours."""
        try:
            yield
        except OfflineModeIsEnabled as error:
            raise UnavailableError(f"{what} cannot be fetched: HF_HUB_OFFLINE forbids it", retry_after=60) from error
        except GatedRepoError as error:
            raise PreconditionError(
                f"{what} is gated: accept its terms at {self.endpoint}/{what}, then set HF_TOKEN on every node"
            ) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise NotFoundError(
                f"there is no model {what}, neither on disk nor at {self.endpoint} (a private one needs HF_TOKEN)",
                code="model_not_found",
            ) from error
        except RevisionNotFoundError as error:
            raise NotFoundError(f"{what} has no such revision at {self.endpoint}", code="model_not_found") from error
        except RemoteEntryNotFoundError as error:
            raise CheckpointError(f"{what} is missing at {self.endpoint}") from error
        except HfHubHTTPError as error:
            message = f"{self.endpoint} answers {error.response.status_code} for {what}"
            raise UnavailableError(f"{message}: {error.server_message or 'no reason given'}") from error
        except httpx2.HTTPError as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise UnavailableError(f"{self.endpoint} does not answer for {what} ({reason})") from error
