"""Fetch one file into the hub's cache: resumed where it was cut, checked as it comes, and in place only when right."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from node.cluster.hub import Hub, RemoteFile
from tandem.errors import CheckpointError, OverloadedError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

Advance = Callable[[int], None]
"""Called with how many more bytes of a file are here; less than nothing where some turned out useless."""

_READ_BYTES = 8 * 1024 * 1024
_WRITE_BYTES = 1024 * 1024
_TRIES = 5
_WAIT_CAP = 8.0
_POLL_SECONDS = 0.1
_OTHER_STALLS_SECONDS = 60.0


def partial_path(blob: Path) -> Path:
    """Where the beginning of a blob is kept until all of it is here."""
    return blob.with_name(f"{blob.name}.tandem.incomplete")


async def transfer(hub: Hub, file: RemoteFile, blob: Path, advance: Advance, *, retry_seconds: float = 1.0) -> None:
    """Make ``blob`` hold the file. A transfer that breaks off is taken up again, a few times if nothing comes any more.

    What arrived is kept for a later call, also after an error or a cancellation, which ends the transfer at once. Where
    another process fetches the same file, this waits for it. No call of the file system runs in the event loop.

    Args:
        hub: an open session.
        file: what to fetch.
        blob: where to; its folder exists.
        advance: told of progress, in the event loop; what was kept from earlier counts at once.
        retry_seconds: the pause before the first new try; it doubles.

    Raises:
        CheckpointError: the bytes have another digest than the hub says; they are removed, the message names the file.
        UnavailableError: the hub does not answer, or the transfer breaks off again and again.
    """
    with _Partial(file, partial_path(blob)) as here:
        at = 0

        def advance_to(now: int) -> None:
            nonlocal at
            if now != at:
                advance(now - at)
                at = now

        if not await _hold(here, blob, advance_to):
            advance_to(file.size)
            return
        async for now in here.resume():
            advance_to(now)
        tries = 0
        while at < file.size:
            before = at
            try:
                async with hub.read(file, at) as (begins, pieces):
                    if begins != at:
                        await here.run(here.restart)
                        advance_to(0)
                    await _receive(here, pieces, advance_to)
                if at < file.size:
                    raise UnavailableError(f"{hub.endpoint} ended the transfer of {file.name} early")
            except UnavailableError as error:
                advance_to(await here.run(here.written))
                tries = 0 if at > before else tries + 1
                if tries == _TRIES:
                    message = (
                        f"{file.name} is cut off at {at:,} of {file.size:,} bytes, which are kept: {error.message}"
                    )
                    raise UnavailableError(message, retry_after=10) from error
                await asyncio.sleep(min(_WAIT_CAP, retry_seconds * 2**tries))
        await here.run(here.finish, blob)


async def _hold(here: _Partial, blob: Path, advance_to: Advance) -> bool:
    """Take hold of the partial file; False when another process brought the whole blob meanwhile."""
    loop = asyncio.get_running_loop()
    deadline, seen = loop.time() + _OTHER_STALLS_SECONDS, -1
    while not await here.run(here.open):
        if await here.run(blob.exists):
            return False
        now = await here.run(here.size_now)
        if now != seen:
            deadline, seen = loop.time() + _OTHER_STALLS_SECONDS, now
            advance_to(now)
        elif loop.time() > deadline:
            raise UnavailableError(f"another process holds {here.path} and does not get on with it")
        await asyncio.sleep(_POLL_SECONDS)
    if await here.run(blob.exists):
        await here.run(here.path.unlink)
        return False
    return True


async def _receive(here: _Partial, pieces: AsyncIterator[bytes], advance_to: Advance) -> None:
    """Write what comes, not too little at a time; what came before an error or a cancellation is written too."""
    collected = bytearray()
    try:
        async for piece in pieces:
            collected += piece
            if len(collected) >= _WRITE_BYTES:
                ready, collected = collected, bytearray()
                advance_to(await here.run(here.write, ready))
    except BaseException:
        here.later(here.write, collected)
        raise
    advance_to(await here.run(here.write, collected))


class _Partial:
    """The partial file, held by a lock that ends with the process; its methods run in one thread of its own."""

    def __init__(self, wanted: RemoteFile, path: Path) -> None:
        self.path = path
        self._wanted = wanted
        self._thread = ThreadPoolExecutor(1, "tandem-transfer")
        self._file: BinaryIO | None = None
        self._size = 0
        self._digest = _new_digest(wanted)

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self.later(self._close)
        self._thread.shutdown(wait=False)

    async def run(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call something in the thread of this file."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *arguments, **named))
        except OSError as error:
            message = f"{self._wanted.name} cannot be written to {self.path}: {error.strerror}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OverloadedError(message, retry_after=0, code="insufficient_storage") from error
            raise CheckpointError(message) from error

    def later(self, call: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> None:
        """Call something in the thread of this file, behind what still runs there; nobody waits for it."""
        self._thread.submit(call, *arguments, **named)

    async def resume(self) -> AsyncIterator[int]:
        """Take up what is there; yields how many bytes have been read again for their digest."""
        if await self.run(self.size_now) > self._wanted.size:
            await self.run(self.restart)
        while piece := await self.run(self._read_again):
            yield piece

    # -- in the thread

    def open(self) -> bool:
        """Open the file and lock it; False when another process has it, or has just moved it into place."""
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        held = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = self.path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if held:
                self._file = file
            else:
                file.close()
        return held

    def size_now(self) -> int:
        """Bytes in the partial file; none when it is gone."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, piece: bytes | bytearray) -> int:
        """Append to the file; returns its size."""
        assert self._file is not None
        if self._size + len(piece) > self._wanted.size:
            self.restart()
            raise CheckpointError(f"{self._wanted.name} is longer than the hub says; it was removed")
        self._file.write(piece)
        self._digest.update(piece)
        self._size += len(piece)
        return self._size

    def written(self) -> int:
        """Bytes that have been written or taken up."""
        return self._size

    def restart(self) -> None:
        """Forget everything that came."""
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        self._size = 0
        self._digest = _new_digest(self._wanted)

    def finish(self, blob: Path) -> None:
        """Check the digest and move the file into place."""
        assert self._file is not None
        found = self._digest.hexdigest()
        if found != self._wanted.etag:
            self.path.unlink()
            raise CheckpointError(
                f"{self._wanted.name} came damaged: its digest is {found}, not {self._wanted.etag};"
                " it was removed, the next try fetches it again"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self.path.replace(blob)

    def _read_again(self) -> int:
        assert self._file is not None
        piece = self._file.read(_READ_BYTES)
        self._digest.update(piece)
        self._size += len(piece)
        return self._size if piece else 0

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def _new_digest(wanted: RemoteFile) -> hashlib._Hash:
    """What makes the etag of a file: SHA-256 of its bytes, or git's SHA-1 of a blob."""
    if len(wanted.etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {wanted.size}\0".encode(), usedforsecurity=False)
