"""What one turn may say, token by token: free, under a grammar, in a thought, or over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final, Literal

from node.serving.grammar.matcher import Matcher
from node.serving.grammar.reading import Reading
from node.serving.grammar.tokens import GrammarTokens
from parsers.format import Thought
from tandem.errors import TandemError

MASK_SECONDS: Final = 60.0
"""What one mask may take before its sequence fails."""

Start = Callable[[], Matcher]
"""A matcher at the beginning of a grammar."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a constraint holds a turn to: ``calls``, ``whole``, ``text`` or ``banned`` alone.

    calls: one block of calls, in an answer that is free otherwise; ``wakes`` says when, from the text of a call's
        opening and whether the call is certain. With ``single`` the turn ends behind it.
    whole: the turn from its beginning, or up to the opening marker of a thought; ``rest`` what follows a thought.
    text: any text but markers of calls; tokens of ``markers`` may stand anywhere and begin it anew.
    banned: tokens that may not come: in the whole turn, or, with ``whole``, in a thought.
    """

    stop_ids: frozenset[int]
    calls: Start | None = None
    wakes: Callable[[str, bool], bool] | None = None
    single: bool = False
    sharp: bool = False
    """No call opens but with one token that opens nothing else, so that no token can overshoot."""
    overshoots: frozenset[int] = frozenset()
    """Tokens with the whole marker of a call in them, and more."""
    whole: Start | None = None
    rest: Start | None = None
    thoughts: tuple[Thought, ...] = ()
    """The kinds of thought, of which the first is the one that the prompt has opened, if any."""
    lead: tuple[int, ...] = ()
    """Tokens that begin what follows a thought, where the format writes it as a message of its own."""
    text: Start | None = None
    markers: frozenset[int] = frozenset()
    banned: frozenset[int] = frozenset()


class TurnConstraint:
    """The ``Constraint`` of one sequence; its state is a pure function of the tokens that it accepted.

    A thought is free. Where calls or JSON must follow, it can neither end the turn nor open a call, and is closed in
    time: so that of ``max_tokens`` at least 64, and at least a quarter, are left for what must follow.

    Masks are computed on ``masks`` from ``accept`` on, while the ring works on the token.

    Args:
        turn: what to hold to.
        reading: of the answer, at its beginning.
        tokens: of the model.
        masks: where masks are computed.
        max_tokens: that the turn may have.
    """

    def __init__(self, turn: Turn, reading: Reading, tokens: GrammarTokens, masks: Executor, max_tokens: int) -> None:
        self._turn = turn
        self._reading = reading
        self._tokens = tokens
        self._masks = masks
        self._left = max_tokens
        self._reserve = max(64, max_tokens // 4)
        self._state: Literal["free", "banned", "grammar", "thought", "over"] = "free"
        self._matcher: Matcher | None = None
        self._pending: Future[bytes] | None = None
        self._forced: tuple[int, ...] = ()
        # The kind of thought that is open, and the tokens that close it, once its time is up.
        self._thought = turn.thoughts[0] if turn.thoughts else None
        self._closing: tuple[int, ...] = ()
        # The newest text of the thought: where its closing marker may be on its way.
        self._tail = ""
        # The parser has seen that the thought is open: some of its markers are whole only with what follows.
        self._inside = False
        # The mask for the token that is to come in place of one that was refused.
        self._instead: bytes | None = None
        # The call that is being read is left to itself.
        self._unbound = False
        if turn.whole is not None:
            if reading.thinking:
                self._think()
            else:
                self._follow(turn.whole())
        elif turn.text is not None:
            self._follow(turn.text())
        elif turn.banned:
            self._state = "banned"

    # -- the engine's side

    def mask(self) -> bytes | None:
        """One bit per token that may come next; None when all may. Waits for what ``accept`` began."""
        if self._instead is not None:
            return self._instead
        match self._state:
            case "free":
                return None
            case "banned":
                return self._all_but(self._turn.banned)
            case "grammar":
                return self._grammar_mask()
            case "thought":
                if self._closing:
                    return self._only(self._closing[:1])
                return self._all_but(self._turn.stop_ids | self._turn.banned)
            case "over":
                return self._only(self._turn.stop_ids) if self._turn.stop_ids else None

    def accept(self, token: int) -> bool:
        """Takes a token; False, with nothing taken, where it may not stand."""
        if self._pending is not None:
            self._pending.result(MASK_SECONDS)
            self._pending = None
        taken = self._take(token)
        if taken:
            self._instead = None
            self._left -= 1
            if self._state == "thought" and not self._closing:
                self._close_in_time()
        return taken

    def forced(self) -> tuple[int, ...]:
        """The tokens that must come next; nothing is taken."""
        return self._closing or self._forced

    def runs_ahead(self) -> bool:
        """Whether any token may come next and would be accepted."""
        if self._state == "over":
            return not self._turn.stop_ids
        if self._state != "free" or self._instead is not None:
            return False
        return self._turn.calls is None or self._turn.sharp or (not self._turn.overshoots and self._reading.settled)

    # -- one token

    def _take(self, token: int) -> bool:
        match self._state:
            case "free":
                return self._take_free(token)
            case "banned":
                return token not in self._turn.banned
            case "grammar":
                return self._take_under_grammar(token)
            case "thought":
                return self._take_thought(token)
            case "over":
                if self._turn.stop_ids and token not in self._turn.stop_ids:
                    return False
                self._let_go()
                return True

    def _take_free(self, token: int) -> bool:
        turn, reading = self._turn, self._reading
        if turn.calls is None or turn.wakes is None or token in turn.stop_ids:
            return True
        careful = not turn.sharp and (not reading.settled or token in turn.overshoots)
        before = reading.copy() if careful and not self._unbound else None
        stage = reading.stage
        reading.feed(token)
        if reading.stage == "" or (reading.stage == "opening" and stage != "opening"):
            self._unbound = False
        self._unbound = self._unbound or reading.missed
        if reading.stage == "" or self._unbound:
            return True
        started = reading.stage == "started"
        if not started and (reading.in_thought or not turn.wakes(reading.call_text(), False)):
            return True
        matcher = turn.calls()
        ids = reading.call_tokens()
        fits = matcher.consume_all(ids)
        if ids and fits == len(ids):
            self._follow(matcher)
            return True
        if before is not None and ids[fits:] == [token]:
            mask = matcher.mask()
            if any(mask):
                self._reading, self._instead = before, mask
                return False
        self._unbound = True
        return True

    def _take_under_grammar(self, token: int) -> bool:
        turn, matcher = self._turn, self._matcher
        assert matcher is not None
        if token in turn.stop_ids and matcher.accepting:
            self._let_go()
            return True
        if turn.text is not None and token in turn.markers:
            self._follow(turn.text())
            return True
        if not matcher.consume(token):
            return False
        self._forced = self._forced[1:] if self._forced[:1] == (token,) else ()
        if turn.text is None:
            self._reading.feed(token)
        if turn.calls is not None and not turn.single and matcher.accepting:
            self._let_go()
        elif not matcher.complete:
            self._follow(matcher)
        elif turn.rest is not None and (thought := self._opened(matcher.taken)) is not None:
            self._thought = thought
            self._think()
        else:
            self._let_go("over")
        return True

    def _opened(self, taken: Sequence[int]) -> Thought | None:
        """The thought whose opening is all that a grammar, now complete, has taken; None where it is something else."""
        text = b"".join(self._tokens.bytes_of[token] for token in taken).strip()
        return next((one for one in self._turn.thoughts if text == one.open.strip().encode()), None)

    def _take_thought(self, token: int) -> bool:
        turn, reading = self._turn, self._reading
        if self._closing:
            if token != self._closing[0]:
                return False
            self._closing = self._closing[1:]
        elif token in turn.stop_ids or token in turn.banned:
            return False
        assert self._thought is not None
        assert turn.rest is not None
        close = self._thought.close
        careful = close not in self._tokens.markers or reading.stage == "opening"
        before = reading.copy() if careful and not reading.settled else None
        tail, text = self._tail, self._tail + reading.feed(token)
        self._tail = text[-len(close) :]
        self._inside = self._inside or reading.thinking
        over = not reading.thinking and (self._inside or close in text)
        if not over or (reading.stage == "opening" and reading.in_thought):
            return True
        if reading.stage == "started" and reading.in_thought:
            ids = reading.call_tokens()
        else:
            ids = self._tokens.write(text.rpartition(close)[2].encode()) if close in text else []
        matcher = turn.rest()
        if matcher.consume_all(ids) == len(ids):
            self._closing = ()
            if not ids and matcher.validate(turn.lead) == len(turn.lead):
                self._forced = turn.lead
            self._follow(matcher)
            return True
        if before is None:
            raise TandemError("the answer cannot go on behind its thought as it must")
        self._reading, self._tail = before, tail
        self._instead = self._only(self._close_ids()[:1])
        return False

    # -- states

    def _let_go(self, state: Literal["free", "over"] = "free") -> None:
        self._state, self._matcher, self._forced = state, None, ()

    def _follow(self, matcher: Matcher) -> None:
        """Goes on under a grammar, and begins to compute what it allows."""
        self._state, self._matcher = "grammar", matcher
        if not self._forced:
            self._forced = matcher.forced()
        if not self._forced:
            self._pending = self._masks.submit(matcher.mask)

    def _think(self) -> None:
        self._let_go()
        self._state, self._tail, self._inside = "thought", "", self._reading.thinking
        self._close_in_time()

    def _close_in_time(self) -> None:
        """Closes the thought as soon as what must be left for the rest would be touched."""
        thought = self._thought
        assert thought is not None
        if self._left <= self._reserve + len(thought.close) + thought.before_close:
            closing = self._close_ids()
            if self._left <= self._reserve + len(closing):
                self._closing = closing

    def _close_ids(self) -> tuple[int, ...]:
        """The tokens that close the thought from where it stands."""
        thought, tail = self._thought, self._tail
        assert thought is not None
        marker = self._tokens.markers.get(thought.close)
        if marker is None:
            begun = next((n for n in range(len(thought.close) - 1, 0, -1) if tail.endswith(thought.close[:n])), 0)
            if begun:
                return tuple(self._tokens.write(thought.close[begun:].encode()))
        feeds = thought.before_close - (len(tail) - len(tail.rstrip("\n")))
        lines = tuple(self._tokens.write(b"\n" * max(0, feeds)))
        return lines + ((marker,) if marker is not None else tuple(self._tokens.write(thought.close.encode())))

    # -- masks

    def _grammar_mask(self) -> bytes:
        if self._forced:
            return self._only(self._forced[:1])
        assert self._matcher is not None
        if self._pending is None:
            self._pending = self._masks.submit(self._matcher.mask)
        mask = self._pending.result(MASK_SECONDS)
        return _with(mask, self._turn.markers) if self._turn.text is not None else mask

    def _all_but(self, tokens: frozenset[int]) -> bytes:
        size = self._tokens.size
        return _without(bytes((0xFF,)) * (size >> 3) + bytes(((1 << (size & 7)) - 1,)), tokens)

    def _only(self, tokens: frozenset[int] | tuple[int, ...]) -> bytes:
        return _with(bytes((self._tokens.size + 7) >> 3), tokens)


def _with(mask: bytes, tokens: frozenset[int] | tuple[int, ...]) -> bytes:
    bits = bytearray(mask)
    for token in tokens:
        bits[token >> 3] |= 1 << (token & 7)
    return bytes(bits)


def _without(mask: bytes, tokens: frozenset[int]) -> bytes:
    bits = bytearray(mask)
    for token in tokens:
        bits[token >> 3] &= ~(1 << (token & 7)) & 0xFF
    return bytes(bits)
