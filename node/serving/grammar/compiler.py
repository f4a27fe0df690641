"""Compiles grammars off the event loop: a few at a time, each once, within bounds that hostile schemas cannot leave.

What llguidance bounds by itself (symbols, states, work per step) has limits here; what it does not bound, the time
that a large schema takes and the stack that a chain of references takes, is held by the length of the text and by
threads with a stack of their own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from node.serving.grammar.calls import Grammar
from node.serving.grammar.leaves import ALONE
from node.serving.grammar.matcher import Matcher, Prototype
from node.serving.grammar.tokens import GrammarTokens
from tandem.errors import InvalidRequestError, OverloadedError

COMPILE_SECONDS: Final = 10.0
"""What one grammar may take to be written and compiled; 300 ordinary tools take a tenth of a second."""
_COMPILERS: Final = 2
_KEPT: Final = 64
"""Grammars that are kept, the ones used last."""
_WAITING: Final = 256
"""Grammars that may be under way or wait for it."""
_LONGEST: Final = 4 * 1024 * 1024
"""Characters of a grammar."""
_STACK: Final = 512 * 1024 * 1024
"""Bytes of stack, of which only those in use are ever there: a reference takes up to 10 KiB."""
_LIMITS: Final = LLParserLimits(max_items_in_row=25_000, verbose_errors=False)

Validate = Callable[[str], str]
Write = Callable[[Validate], Grammar]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A grammar from which sequences can start; ``warnings`` say what it does not hold."""

    prototype: Prototype
    warnings: tuple[str, ...]


class _LateError(Exception):
    """The time is up."""


class _Job:
    """A grammar that is being compiled, or waits for it."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.done: asyncio.Future[Compiled]


class GrammarCompiler:
    """The grammars of one model. ``compile`` is for the event loop; ``close`` ends the threads.

    Args:
        tokens: of the model.
        stop_ids: its end-of-turn tokens.
        seconds: what one grammar may take.
    """

    def __init__(self, tokens: GrammarTokens, stop_ids: frozenset[int], *, seconds: float = COMPILE_SECONDS) -> None:
        self.tokens = tokens
        self.stop_ids = stop_ids
        self._seconds = seconds
        self._kept: OrderedDict[Hashable, Compiled] = OrderedDict()
        self._under_way: dict[Hashable, _Job] = {}
        self._pool = _with_deep_stacks(_COMPILERS)
        self._masks = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="masks")
        self._engine_lock = threading.Lock()

    @property
    def masks(self) -> Executor:
        """Where masks are computed: work of microseconds to milliseconds that lets go of the interpreter's lock."""
        return self._masks

    def close(self) -> None:
        """Ends the threads as soon as they have done what they are at."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._masks.shutdown(wait=False, cancel_futures=True)

    def warm(self) -> Future[None]:
        """Prepares the vocabulary ahead of the first grammar."""
        return self._pool.submit(self._prepare)

    def matcher(self, compiled: Compiled) -> Matcher:
        """A matcher at the beginning of a grammar."""
        return Matcher(compiled.prototype, self.tokens.size, self.stop_ids)

    async def compile(self, key: Hashable, write: Write, *, param: str) -> Compiled:
        """The grammar of ``key``; ``write`` writes it if it is not at hand, in a thread.

        Cancelling the wait leaves the work to whoever else waits for it, and to those that come later.

        Raises:
            InvalidRequestError: with ``param``, unless ``write`` names another: nothing can satisfy the grammar, or
                it is too large or too complex, or takes too long.
            OverloadedError: too many are under way.
        """
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        job = self._under_way.get(key) or self._begin(key, write, param)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(job.done)
        except TimeoutError:
            if job.done.done():
                return job.done.result()
            if job.started.is_set():
                raise self._too_slow(param) from None
            raise OverloadedError(f"{len(self._under_way)} grammars wait to be compiled") from None

    def _begin(self, key: Hashable, write: Write, param: str) -> _Job:
        if len(self._under_way) >= _WAITING:
            raise OverloadedError(f"{_WAITING} grammars wait to be compiled")
        job = self._under_way[key] = _Job()
        job.done = asyncio.get_running_loop().run_in_executor(self._pool, self._make, job, write, param)
        job.done.add_done_callback(lambda done: self._keep(key, done))
        return job

    def _keep(self, key: Hashable, done: asyncio.Future[Compiled]) -> None:
        del self._under_way[key]
        if not done.cancelled() and done.exception() is None:
            self._kept[key] = done.result()
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    # -- in a thread

    def _prepare(self) -> None:
        with self._engine_lock:
            self.tokens.engine  # noqa: B018 - made once

    def _make(self, job: _Job, write: Write, param: str) -> Compiled:
        job.started.set()
        deadline = time.monotonic() + self._seconds
        self._prepare()

        def validate(text: str) -> str:
            if time.monotonic() > deadline:
                raise _LateError
            return refusal(text, self.tokens.engine, _LIMITS)

        try:
            grammar = write(validate)
        except _LateError:
            raise self._too_slow(param) from None
        except RecursionError:
            raise InvalidRequestError("A schema is nested too deeply to be decoded under.", param=param) from None
        if len(grammar.text) > _LONGEST:
            raise InvalidRequestError(
                f"The schemas make a grammar of {len(grammar.text)} characters; up to {_LONGEST} can be decoded under.",
                param=param,
            )

        def make() -> LLMatcher:
            return LLMatcher(self.tokens.engine, grammar.text, log_level=0, limits=_LIMITS)

        first = make()
        first.compute_bitmask()  # builds what all masks need, while the prompt is still to be run
        if first.is_error():
            raise InvalidRequestError(f"No answer can be decoded under this: {_reason(first)}", param=param)
        return Compiled(Prototype(make, first), grammar.warnings)

    def _too_slow(self, param: str) -> InvalidRequestError:
        return InvalidRequestError(
            f"The schemas are too complex: no grammar could be made of them within {self._seconds:g} s.", param=param
        )


def refusal(text: str, engine: LLTokenizer, limits: LLParserLimits | None = None) -> str:
    """What is wrong with the text of a grammar, or "". One of a terminal alone is wrong, too, if nothing fits it."""
    error: str = LLMatcher.validate_grammar(text, engine, limits=limits)
    if error and not error.startswith("WARNING"):
        return error
    if not text.startswith(ALONE):
        return ""
    matcher = LLMatcher(engine, text, log_level=0, limits=limits)
    if matcher.is_accepting():
        return ""
    matcher.compute_bitmask()
    return "nothing fits" if matcher.is_stopped() else ""


def _reason(matcher: LLMatcher) -> str:
    """What is wrong with a grammar, without the grammar's text."""
    return matcher.get_error().partition("\n")[0][:300] or "the grammar allows no text"


def _with_deep_stacks(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads are all there, with room for deep recursion."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="grammars")
    together = threading.Barrier(threads + 1)
    before = threading.stack_size(_STACK)
    try:
        for _ in range(threads):
            pool.submit(together.wait)
    finally:
        threading.stack_size(before)
    together.wait()
    return pool
