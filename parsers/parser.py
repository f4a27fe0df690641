"""The engine: follows one model's output and reports answer, thought and calls as they become certain.

The state is a pure function of what was fed: the same text in other pieces gives the same events, neighbouring deltas
apart. Nothing that is fed raises, and no text is lost: what turns out to be no call comes out as text.
"""

from collections import deque
from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

from parsers.call import Rules
from parsers.events import Event, Finish, FinishReason
from parsers.format import Format
from parsers.output import Output
from parsers.prose import Opening, Prose
from parsers.region import Region
from parsers.schema import ToolSchema
from parsers.tables import tables_of
from parsers.window import Piece, Window


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the request declares: its name and, if it has any, the JSON schema of its parameters, verbatim."""

    name: str
    parameters_json: str | None = None


class Parser:
    """Follows one choice of one response.

    `tools_enabled` false: markup of calls is text. `prompt_suffix`: the end of the rendered prompt, from the
    assistant's turn on; it says whether the model is already thinking, and is not part of the answer. `initial` says
    so outright. `single_tokens`: the markers that the vocabulary has a token for; such a marker in several pieces is
    only text.
    """

    def __init__(
        self,
        format: Format,  # noqa: A002
        tools: Sequence[ToolSpec] = (),
        tools_enabled: bool = True,
        prompt_suffix: str = "",
        *,
        initial: Literal["content", "reasoning"] | None = None,
        single_tokens: Collection[str] = (),
    ) -> None:
        self._format = format
        self._calls = tools_enabled and bool(tools)
        self._tables = tables_of(format)
        self._tools = {tool.name: ToolSchema(tool.parameters_json) for tool in tools}
        self._output = Output()
        self._prose = Prose(format, self._calls, self._output, single_tokens)
        self._prose.prime(prompt_suffix, initial)
        self._region: Region | None = None
        # Pieces that are still to be read: the newest, or those of a call that was none.
        self._queue: deque[Piece] = deque()
        # The end of what was read, which must be seen again, and the single tokens in it.
        self._tail = ""
        self._tokens: list[tuple[int, int]] = []
        # The raw text of calls that count only if the whole answer is calls.
        self._shelf: list[Piece] | None = None

    @property
    def in_arguments(self) -> bool:
        """Whether the text stands inside a call, header and arguments: stop strings do not count there."""
        return self._region is not None

    @property
    def in_reasoning(self) -> bool:
        """Whether the text stands inside a thought."""
        return self._region is None and self._prose.thinking

    @property
    def call_started(self) -> bool:
        """Whether the text stands inside a call whose header is complete."""
        return self._region is not None and self._region.call.started

    @property
    def call_text(self) -> str | None:
        """The text since a call may have begun, or since the last one was complete, white space before it included.

        None outside of calls, and as soon as a call's header is complete.
        """
        region = self._region
        if region is None or region.held is None or region.call.started:
            return None
        return "".join(text for text, _ in region.held)

    @property
    def settled(self) -> bool:
        """Whether nothing that was fed is held back, nor may the next text be a call for want of a marker."""
        return self._region is None and not self._tail and not self._prose.awaits_call

    def copy(self) -> "Parser":
        """Another parser in the same state, with what both only read in common."""
        spec, tables = self._format, self._tables
        common = (spec, tables, *spec.states.values(), *tables.edges.values(), *tables.behind.values(), self._tools)
        return deepcopy(self, {id(each): each for each in (*common, *self._prose.common)})

    def reads(self, token: str) -> bool:
        """Whether the text of an end-of-turn token means something to the format; any other is not to be fed."""
        return token in self._format.literals

    def feed(self, text: str, token_id: int | None = None, single: bool = False) -> list[Event]:
        """Take the next decoded piece; `single` says that it is one vocabulary token. Returns what became certain.

        `token_id` identifies the token for formats whose text alone does not; `None` where it is not known.
        """
        del token_id
        if self._region is None and not self._tail and self._prose.plain(text):
            return self._output.take()
        if text:
            self._queue.append((text, single))
            self._drain(False)
        return self._output.take()

    def finish(self, reason: Literal["stop", "length"] = "stop") -> list[Event]:
        """The text is over. Returns the last events; the very last is `Finish`."""
        limited = reason == "length"
        self._prose.limited = limited
        self._queue.append(("", False))
        while True:
            if self._region is not None:
                self._region.limited = limited
            self._drain(True)
            region = self._region
            if region is None:
                if not self._output.shelved:
                    break
                self._unshelve(keep=not limited and not self._output.spoilt)
            elif region.call.started or region.settle(self._tail):
                if not limited:
                    region.call.warn("the call was not closed")
                region.close(self._tail, limited)
                self._tail, self._tokens = "", []
                self._region = None
            else:
                self._fail(region)
        finish: FinishReason = "length" if limited else "tool_calls" if self._output.count else "stop"
        self._output.event(Finish(finish))
        return self._output.take()

    def _drain(self, final: bool) -> None:
        while self._queue:
            text, single = self._queue.popleft()
            self._consume(text, single, final and not self._queue)

    def _consume(self, piece: str, single: bool, final: bool) -> None:
        if self._shelf is not None:
            self._shelf.append((piece, single))
        elif self._region is not None and self._region.held is not None:
            self._region.held.append((piece, single))
        if single and self._region is not None and self._region.in_values and self._interrupt(piece):
            return
        text, tokens = self._tail + piece, self._tokens
        if single:
            tokens = [*tokens, (len(self._tail), len(text))]
        window = Window(text, tokens, final)
        self._tail, self._tokens = "", []
        prose = self._prose
        pos = 0
        while True:
            region = self._region
            if region is None:
                pos = prose.scan(window, pos)
                if pos < 0:
                    self._unshelve(keep=False)
                    return
                if prose.opening is not None:
                    self._begin(window, prose.opening)
                    prose.opening = None
                elif not prose.acted:
                    break
                continue
            pos = region.run(window, pos)
            if region.call.deferred and self._shelf is None:
                self._shelf = region.held
                prose.only_calls = True
            if not region.outcome:
                break
            if region.outcome == "failed":
                self._fail(region)
                return
            self._region = None
            prose.resume(region.outcome == "thought", region.finished > 0)
        if pos < len(text):
            self._tail = text[pos:]
            self._tokens = window.tokens_from(pos) if tokens else []

    def _begin(self, window: Window, opening: Opening) -> None:
        """A call may begin."""
        after = opening.mark + (len(opening.literal) or 1)
        held = [(window.text[opening.start : after], False), *window.pieces(after)]
        sure, bare = not self._prose.thinking, not opening.literal
        self._region = self._open(opening.state, held, sure=sure, bare=bare)

    def _interrupt(self, piece: str) -> bool:
        """A single token that opens a call, among another call's arguments."""
        state = self._format.openers.get(piece.strip())
        if state is None:
            return False
        parent = self._region
        assert parent is not None
        parent.tail, self._tail, self._tokens = self._tail, "", []
        self._region = self._open(state, [(piece, False)], sure=False, bare=False, parent=parent)
        return True

    def _open(self, state: str, held: list[Piece], *, sure: bool, bare: bool, parent: Region | None = None) -> Region:
        bare = bare and not self._format.bare_sure
        rules = Rules(self._tools, self._calls, self._format.declared_only, sure, bare)
        return Region(self._format, self._tables, self._output, rules, state, held, parent)

    def _fail(self, region: Region) -> None:
        """What was held back is no call: it is text of the place where it stood."""
        held = region.held or []
        self._region = region.parent
        self._tail, self._tokens = "", []
        if self._shelf is not None:
            self._unshelve(keep=False)
            return
        if region.parent is not None:
            self._tail = region.parent.tail
            self._queue.extendleft(reversed(held))
            return
        self._prose.spare(held[0][0] if held else "", region.finished > 0)
        self._again(held)

    def _unshelve(self, keep: bool) -> None:
        """Let the calls that were kept back count, or let them be text."""
        self._output.unshelve(keep)
        shelf, self._shelf = self._shelf or [], None
        self._prose.only_calls = False
        if not keep:
            # A call that has begun among the kept back ones' arguments leaves them open.
            self._region = None
            self._tail, self._tokens = "", []
            self._prose.resume(thinking=False, after_call=False)
            self._again(shelf)

    def _again(self, held: list[Piece]) -> None:
        """What began with the first piece was no call: that is text, and the rest is read again."""
        for text, _ in held[:1]:
            self._prose.write(text)
        self._queue.extendleft(reversed(held[1:]))
