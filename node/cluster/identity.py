"""Who this node is: an id that stays, an incarnation that grows, whom it was with; and the lock on their folder."""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tandem.errors import ConflictError, SettingsError

_FILE: Final = "node.json"
_LOCK: Final = "lock"


class Identity:
    """A node's id and incarnation, kept in a state directory that one process at a time may use.

    Incarnations are milliseconds since the epoch, or one more than the last where that is later: they grow with every
    start and every ``renew``, and two copies of one directory never count alike.

    A context manager: leaving it lets go of the directory.
    """

    def __init__(self, directory: Path, *, wall: Callable[[], float] = time.time) -> None:
        """Opens (or makes) the directory and begins a new incarnation.

        Raises ``ConflictError`` when another process uses the directory, ``SettingsError`` when it cannot be read or
        written or holds something else.
        """
        self._path = directory / _FILE
        self._wall = wall
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(directory / _LOCK)
        except OSError as error:
            raise SettingsError(f"data_dir: {directory} cannot be used: {error.strerror}") from error
        try:
            self.node_id, self.incarnation, self.members = self._load()
            self._past: set[int] = set()
            self.renew()
        except BaseException:
            self.close()
            raise

    def renew(self) -> int:
        """Begins a new incarnation, remembers it in the directory and returns it. Writes one small file, and raises
        ``SettingsError`` when it cannot."""
        self.incarnation = max(self.incarnation + 1, int(self._wall() * 1000))
        self._past.add(self.incarnation)
        self._write()
        return self.incarnation

    def remember(self, members: Iterable[str]) -> None:
        """Notes the ids of the nodes that this one is with: ``members`` of the next process. Writes, and raises, as
        ``renew`` when they changed."""
        now = frozenset(members)
        if now != self.members:
            self.members = now
            self._write()

    def was_mine(self, incarnation: int) -> bool:
        """Whether this very process went under that incarnation at some time."""
        return incarnation in self._past

    def close(self) -> None:
        """Lets another process use the directory. May be called again."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self) -> tuple[str, int, frozenset[str]]:
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            members = frozenset(str(uuid.UUID(each)) for each in record.get("members", ()))
            return str(uuid.UUID(record["node_id"])), int(record["incarnation"]), members
        except FileNotFoundError:
            return str(uuid.uuid4()), 0, frozenset()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError(
                f"data_dir: {self._path} is damaged ({error}); remove it and this node gets a new id"
            ) from error

    def _write(self) -> None:
        record = {"node_id": self.node_id, "incarnation": self.incarnation, "members": sorted(self.members)}
        draft = self._path.with_suffix(".tmp")
        try:
            draft.write_text(json.dumps(record) + "\n", encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            raise SettingsError(f"data_dir: {self._path} cannot be written: {error.strerror}") from error


def _lock(path: Path) -> int:
    """An open file descriptor that holds the lock; the kernel lets go of it when the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise ConflictError(
            f"{path.parent} is in use by another node daemon (process {holder}); "
            "give each daemon a --data-dir of its own"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
    return descriptor
