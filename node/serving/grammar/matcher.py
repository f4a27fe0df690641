"""One sequence under one grammar: llguidance's matcher with what it leaves to its caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from llguidance import LLMatcher

from tandem.errors import TandemError


class Prototype:
    """A compiled grammar: a matcher at the beginning, copied for each sequence. For any thread.

    The copies share an automaton that grows with the texts they see. Where it has become too large, they all go on
    with a new one.

    Args:
        make: compiles the grammar; slow, and lets go of the interpreter's lock.
        first: what ``make`` gave the first time.
    """

    def __init__(self, make: Callable[[], LLMatcher], first: LLMatcher) -> None:
        self._make = make
        self._matcher = first
        self._age = 0
        self._lock = threading.Lock()

    def copy(self, worn: int = -1) -> tuple[LLMatcher, int]:
        """A matcher at the beginning and the age of its automaton, which is not ``worn``."""
        with self._lock:
            if worn == self._age:
                self._matcher = self._make()
                self._age += 1
            return self._matcher.deep_copy(), self._age


class Matcher:
    """Says which tokens may come next, and takes them. Not for two threads at once.

    ``mask`` and ``consume`` let go of the interpreter's lock while they work. Both raise TandemError when the grammar
    is too complex to be followed any further.

    Args:
        grammar: to start from.
        vocabulary: how many tokens there are. The id behind the last stands for the end of the turn in the grammar's
            eyes; it is never allowed itself, nor is what lies beyond.
        stop_ids: the tokens that end the turn, any of which may come wherever the grammar may end.
    """

    __slots__ = ("_age", "_grammar", "_inner", "_stop_ids", "_taken", "_vocabulary")

    def __init__(self, grammar: Prototype, vocabulary: int, stop_ids: frozenset[int]) -> None:
        self._grammar = grammar
        self._inner, self._age = grammar.copy()
        self._vocabulary = vocabulary
        self._stop_ids = stop_ids
        self._taken: list[int] = []

    @property
    def taken(self) -> Sequence[int]:
        """The tokens so far, those that end the turn not counted."""
        return self._taken

    @property
    def accepting(self) -> bool:
        """Whether the text so far is whole."""
        return bool(self._inner.is_accepting())

    @property
    def complete(self) -> bool:
        """Whether the text is whole and nothing may follow."""
        return bool(self._inner.is_stopped() and self._inner.is_accepting())

    def consume(self, token: int) -> bool:
        """Takes a token; False, with nothing changed, where the grammar does not allow it.

        A token that ends the turn leaves the matcher as it is.
        """
        if token in self._stop_ids and self._inner.is_accepting():
            return True
        if not 0 <= token < self._vocabulary or self._inner.is_stopped():
            return False
        taken = self._inner.try_consume_tokens([token])
        if not taken and self._inner.is_error():
            self._renew()
            taken = self._inner.try_consume_tokens([token])
            self._check()
        if taken:
            self._taken.append(token)
        return bool(taken)

    def consume_all(self, tokens: Sequence[int]) -> int:
        """Takes tokens up to the first that the grammar does not allow; says how many."""
        for count, token in enumerate(tokens):
            if not self.consume(token):
                return count
        return len(tokens)

    def mask(self) -> bytes:
        """The tokens that may come next, one bit each, lowest first."""
        mask: bytes = self._inner.compute_bitmask()
        if self._inner.is_error():
            self._renew()
            mask = self._inner.compute_bitmask()
            self._check()
        end = self._vocabulary
        if not mask[end >> 3] >> (end & 7) & 1:
            return mask
        bits = bytearray(mask)
        bits[end >> 3] ^= 1 << (end & 7)
        for stop in self._stop_ids:
            bits[stop >> 3] |= 1 << (stop & 7)
        return bytes(bits)

    def forced(self) -> tuple[int, ...]:
        """The tokens that must come next, as the tokenizer would write them; empty where there is a choice."""
        return tuple(self._inner.compute_ff_tokens())

    def validate(self, tokens: Sequence[int]) -> int:
        """How many of the tokens could be taken, one after the other, the end of the turn included; nothing changes."""
        known = next((at for at, token in enumerate(tokens) if not 0 <= token < self._vocabulary), len(tokens))
        count = 0 if self._inner.is_stopped() else self._inner.validate_tokens(list(tokens[:known]))
        ends = next((at for at, token in enumerate(tokens[: count + 1]) if token in self._stop_ids), -1)
        if ends < 0:
            return count
        fits = self.consume_all(tokens[:ends])
        accepting = self.accepting
        self.rollback(fits)
        return ends + 1 if accepting else count

    def rollback(self, count: int) -> None:
        """Takes back the last ``count`` tokens, those that end the turn not counted."""
        if not 0 <= count <= len(self._taken):
            raise ValueError(f"{count} of {len(self._taken)} tokens cannot be taken back")
        if count:
            del self._taken[-count:]
            if not self._inner.rollback(count):
                self._renew()

    def _renew(self) -> None:
        """Goes on with an automaton that is not worn."""
        self._inner, self._age = self._grammar.copy(self._age)
        self._inner.try_consume_tokens(self._taken)
        self._check()

    def _check(self) -> None:
        if self._inner.is_error():
            raise TandemError(f"the grammar cannot be followed any further: {self._inner.get_error()[:200]}")
