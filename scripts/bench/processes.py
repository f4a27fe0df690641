"""Other processes that take lines and answer in lines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE


class Child:
    """A Python process that has said its first line, ``greeting``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.greeting = self._read()

    def ask(self, line: str) -> str:
        """Its answer to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args))[:200]} ended")  # type: ignore[arg-type]
        return line


@contextmanager
def child(arguments: Sequence[str]) -> Iterator[Child]:
    """The process while the block runs, in a session of its own: Linux shares the processor out by session, and whoever
    is compared with a daemon must get what a daemon gets."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=PIPE, stdout=PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()
