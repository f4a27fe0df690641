"""The engine: follows one model's output and reports answer, thought and calls as they become certain.

The state is a pure function of what was fed: the same text in other pieces gives the same events, neighbouring deltas
apart. Nothing that is fed raises, and no text is lost: what turns out to be no call comes out as text.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from parsers.call import Rules
from parsers.events import Event, Finish, FinishReason
from parsers.fences import Fences
from parsers.format import Format, Thought
from parsers.literals import Wait
from parsers.modes import Marker, Mode, modes_of
from parsers.output import Output
from parsers.region import Region
from parsers.schema import ToolSchema
from parsers.tables import tables_of

_LONGEST_SPACE = 64


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
        self._answer, self._thinking = modes_of(format, self._calls)
        self._tables = tables_of(format)
        self._tools = {tool.name: ToolSchema(tool.parameters_json) for tool in tools}
        self._single_tokens = frozenset(single_tokens)
        self._output = Output()
        self._fences = Fences()
        self._queue: deque[tuple[str, bool]] = deque()
        self._tail = ""
        self._region: Region | None = None
        self._mode = self._answer
        # Line feeds of markup still to be dropped.
        self._swallow = 0
        # Nothing of the answer has been written; a call was the last thing written.
        self._at_start, self._after_call = True, False
        self._thought_empty = False
        # A call has turned out to be text.
        self._spares = False
        # The last scan found a marker, so that there is more to do.
        self._acted = False
        self._shelf: list[tuple[str, bool]] | None = None
        self._prime(prompt_suffix, initial)

    @property
    def in_arguments(self) -> bool:
        """Whether the text stands inside a call, header and arguments: stop strings do not count there."""
        return self._region is not None

    @property
    def in_reasoning(self) -> bool:
        """Whether the text stands inside a thought."""
        return self._region is None and self._mode is self._thinking

    def feed(self, text: str, token_id: int | None = None, single: bool = False) -> list[Event]:
        """Take the next decoded piece; `single` says that it is one vocabulary token. Returns what became certain.

        `token_id` identifies the token for formats whose text alone does not; `None` where it is not known.
        """
        del token_id
        if text:
            self._queue.append((text, single))
            self._drain(False)
        return self._output.take()

    def finish(self, reason: Literal["stop", "length"] = "stop") -> list[Event]:
        """The text is over. Returns the last events; the very last is `Finish`."""
        limited = reason == "length"
        self._queue.append(("", False))
        while True:
            if self._region is not None:
                self._region.limited = limited
            self._drain(True)
            region = self._region
            if region is None:
                break
            if region.call.started:
                if not limited:
                    region.call.warn("the call was not closed")
                if region.in_text:
                    region.call.write([self._tail])
                self._tail = ""
                region.close()
                self._region = None
            else:
                self._fail(region)
        if self._output.shelved:
            self._unshelve(keep=not limited and not self._output.spoilt)
        finish: FinishReason = "length" if limited else "tool_calls" if self._output.count else "stop"
        self._output.event(Finish(finish))
        return self._output.take()

    def _prime(self, suffix: str, initial: str | None) -> None:
        """Find out whether the prompt has left a thought open; where it has no marker of one, `initial` decides."""
        last, opened = -1, initial == "reasoning"
        thought = self._format.thoughts[0] if self._format.thoughts else None
        for one in self._format.thoughts:
            for marker, opens in ((one.open, True), (one.close, False)):
                at = suffix.rfind(marker)
                if at > last:
                    last, opened, thought = at, opens, one
        if opened and thought is not None:
            self._mode = self._thinking
            self._thought_empty = last < 0
            if last < 0 or suffix.endswith(thought.open):
                self._swallow = thought.after_open

    def _drain(self, final: bool) -> None:
        while self._queue:
            text, single = self._queue.popleft()
            self._consume(text, single, final and not self._queue)

    def _consume(self, piece: str, single: bool, final: bool) -> None:
        if self._shelf is not None:
            self._shelf.append((piece, single))
        elif self._region is not None and self._region.held is not None:
            self._region.held.append((piece, single))
        if single and self._region is not None and self._region.in_text and self._interrupt(piece):
            return
        text, fresh = self._tail + piece, len(self._tail)
        self._tail = ""
        pos = 0
        while True:
            region = self._region
            if region is None:
                self._acted = False
                pos = self._scan(text, pos, single, fresh, final)
                if not self._acted:
                    break
                continue
            region.single, region.fresh = single, fresh
            pos = region.run(text, pos, final)
            if region.call.deferred and self._shelf is None:
                self._shelf = region.held
            if not region.outcome:
                break
            if region.outcome == "failed":
                self._fail(region)
                return
            self._region = None
            self._mode = self._thinking if region.outcome == "thought" else self._answer
            self._thought_empty = True
            self._after_call = region.finished > 0
            self._at_start = self._at_start and not self._after_call
        self._tail = text[pos:] if pos >= 0 else ""

    def _interrupt(self, piece: str) -> bool:
        """A single token that opens a call, inside the text of another call's arguments."""
        marker = piece.strip()
        state = self._format.openers.get(marker)
        if state is None:
            return False
        held = [(piece, False)]
        parent = self._region
        assert parent is not None
        parent.tail, self._tail = self._tail, ""
        self._region = self._open(state, held, sure=False, bare=False, parent=parent)
        return True

    def _open(
        self, state: str, held: list[tuple[str, bool]], *, sure: bool, bare: bool, parent: Region | None = None
    ) -> Region:
        rules = Rules(
            tools=self._tools,
            wanted=self._calls,
            declared_only=self._format.declared_only,
            sure=sure,
            bare=bare and not self._format.bare_sure,
        )
        return Region(self._format, self._tables, self._output, rules, state, held, parent)

    def _fail(self, region: Region) -> None:
        """What was held back is no call: it is text of the place where it stood."""
        held = region.held or []
        self._region = region.parent
        self._tail = ""
        if self._shelf is not None:
            self._unshelve(keep=False)
            return
        self._spares = bool(held) and held[0][0].strip() in self._format.openers
        first, rest = held[:1], held[1:]
        if region.parent is not None:
            self._tail = region.parent.tail
            self._queue.extendleft(reversed(held))
            return
        if region.finished:
            self._mode, self._after_call = self._answer, True
        for text, _ in first:
            self._write(text)
        self._queue.extendleft(reversed(rest))

    def _unshelve(self, keep: bool) -> None:
        self._output.unshelve(keep)
        shelf, self._shelf = self._shelf or [], None
        if not keep:
            self._queue.clear()
            self._tail = ""
            for text, _ in shelf:
                self._write(text)

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._mode is self._answer:
            self._fences.add(text)
            self._at_start = self._after_call = False
        else:
            self._thought_empty = False
        self._output.put(self._mode.kind, text)

    def _scan(self, text: str, pos: int, single: bool, fresh: int, final: bool) -> int:
        """Answer or thought from `pos` on. Returns where the text to be seen again begins, or -1 if it is abandoned."""
        mode = self._mode
        end = len(text)
        while self._swallow and pos < end:
            if text[pos] != "\n":
                self._swallow = 0
                break
            self._swallow -= 1
            pos += 1
        if mode is self._answer and (self._after_call or self._at_start):
            space = pos
            while space < end and text[space].isspace() and space - pos <= _LONGEST_SPACE:
                space += 1
            if space == end:
                if not final:
                    return pos
                if self._after_call and not text[pos:].strip("\n"):
                    return end
            elif space - pos <= _LONGEST_SPACE:
                found = mode.markers.at(text, space, final)
                silent = self._format.silent if self._at_start else ""
                if isinstance(found, Wait) or (silent and not final and silent.startswith(text[space:])):
                    return pos
                if silent and text.startswith(silent, space):
                    self._think(self._format.thoughts[0])
                    return space + len(silent)
                if (
                    found is not None
                    and found[1].does == "end"
                    and self._after_call
                    and not text[pos:space].strip("\n")
                ):
                    pos = space
                elif found is not None and found[1].does == "call" and self._opens(found[0], single and space >= fresh):
                    return self._begin(text, pos, space, found[0], found[1].state, single, fresh)
                first = self._format.bare_first
                bare = self._at_start and self._format.bare and (self._calls or self._format.messages)
                if found is None and bare and (not first or text[space] in first):
                    return self._begin(text, pos, space, "", self._format.bare, single, fresh)
            if self._shelf is not None:
                self._unshelve(keep=False)
                return -1
        elif self._shelf is not None and pos < end:
            self._unshelve(keep=False)
            return -1
        return self._find(mode, text, pos, single, fresh, final)

    def _find(self, mode: Mode, text: str, pos: int, single: bool, fresh: int, final: bool) -> int:
        markers = mode.markers
        at, end = pos, len(text)
        while (hit := markers.first.search(text, at)) is not None:
            at = mark = hit.start()
            while mark < end and text[mark] == "\n" and mode.newlines:
                mark += 1
            found = markers.at(text, mark, final)
            if isinstance(found, Wait):
                at = max(at, mark - mode.newlines)
                self._write(text[pos:at])
                return at
            if found is not None:
                literal, marker = found
                before = max(at, mark - marker.newlines)
                self._write(text[pos:before])
                pos = before
                alone, last = single and mark >= fresh, mark + len(literal) == end
                if marker.does == "end" and last and not (alone or final):
                    return pos
                if self._acts(marker, literal, alone, last):
                    return self._act(marker, literal, text, mark, single, fresh)
            at = mark + 1 if mark == at or found is not None else mark
        self._write(text[pos:])
        return end

    def _acts(self, marker: Marker, literal: str, alone: bool, last: bool) -> bool:
        """Whether the literal is markup where it stands, and not text about markup."""
        thinking = self._mode is self._thinking
        if marker.does == "think" and thinking:
            # The opening marker at the head of a thought that only `initial` knows of.
            return self._thought_empty
        if marker.does == "answer" and not thinking:
            return marker.stray == "always" or (marker.stray == "head" and self._at_start)
        if marker.does == "drop":
            # The end of a call that was none is as much text as its beginning.
            spared, self._spares = self._spares, False
            return not (spared and self._tables.ends(literal))
        if alone:
            return True
        if literal in self._single_tokens:
            return False
        if marker.does == "end":
            return last
        if marker.does == "think":
            return (marker.stray == "always" or self._fences.at_line_start()) and not self._fences.inside()
        return thinking or self._opens(literal, False)

    def _opens(self, literal: str, alone: bool) -> bool:
        if alone:
            return True
        return literal not in self._single_tokens and (self._format.fenced or not self._fences.inside())

    def _act(self, marker: Marker, literal: str, text: str, mark: int, single: bool, fresh: int) -> int:
        after = mark + len(literal)
        self._acted = True
        if marker.does == "call":
            return self._begin(text, mark, mark, literal, marker.state, single, fresh)
        if marker.does == "think" and marker.thought is not None:
            self._think(marker.thought)
        elif marker.thought is not None:
            self._mode = self._answer
            self._swallow = marker.thought.after_close
        return after

    def _think(self, thought: Thought) -> None:
        self._mode = self._thinking
        self._thought_empty = True
        self._swallow = thought.after_open
        self._acted = True

    def _begin(self, text: str, start: int, mark: int, literal: str, state: str, single: bool, fresh: int) -> int:
        """A call may begin at `mark`; `start` is where the white space before it begins, which belongs to it."""
        after = mark + (len(literal) or 1)
        split = max(after, fresh)
        held = [(text[start:after], False), (text[after:split], False), (text[split:], single)]
        sure = self._mode is self._answer
        if not literal:
            self._at_start = False
        self._acted = True
        self._region = self._open(state, held, sure=sure, bare=not literal)
        return mark + len(literal)
