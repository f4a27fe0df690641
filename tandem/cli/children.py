"""Daemons as child processes: started, waited for until they listen, watched, and ended without fail."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tandem.daemon import FOLLOW_FLAG, GRACE
from tandem.errors import TandemError

TANDEM: tuple[str, ...] = (sys.executable, "-P", "-m", "tandem.cli")
"""What daemons are started with: this Python, whatever lies in the working folder."""
READY_DEADLINE: Final = 90.0
"""Seconds from the start of a daemon to its ready line; imports on a cold disk take most of it."""
REPORTED_LINES: Final = 12

_READY = re.compile(rb"^ready .*\blisten=(\S+)")


class ChildDiedError(TandemError):
    """A daemon ended without being asked to; its last log lines were shown."""

    code = "child_died"


class Child:
    """One daemon: a process group of its own, its standard error in a log file."""

    def __init__(self, name: str, arguments: Sequence[str], process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.arguments = tuple(arguments)
        self.address = ""
        self.log = log
        self._process = process
        self._asked = False
        self.listening = asyncio.Event()

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str], log: Path) -> Self:
        """Starts ``tandem <arguments>`` with this Python; returns at once, before it listens."""
        with log.open("ab") as file:
            # A session of its own: a terminal's Ctrl-C then reaches only the parent, which ends the children in order.
            process = await asyncio.create_subprocess_exec(
                *TANDEM,
                *arguments,
                FOLLOW_FLAG,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
        return cls(name, arguments, process, log)

    async def follow(self) -> None:
        """Reads the daemon's output to its end, notes the address of the ready line, returns when the process ended."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if match := _READY.match(line):
                self.address = match[1].decode()
                self.listening.set()
        await self._process.wait()

    @property
    def died(self) -> bool:
        """Whether the process ended without having been asked to."""
        return self._process.returncode is not None and not self._asked

    def last_lines(self) -> str:
        """The end of its log, each line under its name."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-REPORTED_LINES:]
        return "\n".join(f"{self.name} | {line}" for line in lines)

    def end_in_words(self) -> str:
        """How the process ended, in one line."""
        code = self._process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        return f"{self.name} {how}; the last lines of its log are above"

    def ask_to_end(self) -> None:
        """Sends SIGTERM once; does nothing to a process that has ended."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process and all that it started, now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._asked = True
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return


class Children:
    """All daemons of one run. Leaving the context ends every one of them, within ``GRACE`` and a moment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[Child, asyncio.Task[None]] = {}
        self._deaths: asyncio.Queue[Child] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.end(list(self._children)))

    async def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Starts a daemon, see ``Child.start``."""
        child = await Child.start(name, arguments, self._folder / f"{name}.log")
        self._children[child] = asyncio.create_task(self._follow(child), name=f"follow {name}")
        return child

    async def listening(self, children: Sequence[Child]) -> None:
        """Waits until all of them listen; ``TandemError`` when one does not within ``READY_DEADLINE``."""
        try:
            async with asyncio.timeout(READY_DEADLINE):
                for child in children:
                    await child.listening.wait()
        except TimeoutError:
            late = ", ".join(child.name for child in children if not child.listening.is_set())
            raise TandemError(f"{late} did not listen within {READY_DEADLINE:.0f} s") from None

    async def death(self) -> Child:
        """Waits for the next daemon that ends without having been asked to; each is told once."""
        return await self._deaths.get()

    async def _follow(self, child: Child) -> None:
        await child.follow()
        if child.died:
            self._deaths.put_nowait(child)

    async def end(self, children: Sequence[Child]) -> None:
        """Ends these daemons: asks, waits ``GRACE`` seconds, kills. Returns when their processes are gone."""
        tasks = [self._children[child] for child in children]
        if not tasks:
            return
        for child in children:
            child.ask_to_end()
        await asyncio.wait(tasks, timeout=GRACE)
        for child in children:
            child.kill()
        await asyncio.wait(tasks)

    def kill(self) -> None:
        """Kills every daemon at once."""
        for child in self._children:
            child.kill()
