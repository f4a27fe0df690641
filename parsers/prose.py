"""Answer and thought: what is written outside of calls, and which markers in it are markup."""

from collections.abc import Collection
from dataclasses import dataclass

from parsers.fences import Fences
from parsers.format import Format, Thought
from parsers.json_strings import JsonStrings
from parsers.literals import Wait
from parsers.modes import Marker, modes_of
from parsers.output import Output
from parsers.tables import tables_of
from parsers.window import Window

_LONGEST_SPACE = 64


@dataclass(frozen=True, slots=True)
class Opening:
    """A call may begin: white space that belongs to it from `start`, its marker at `mark`, "" where it has none."""

    start: int
    mark: int
    literal: str
    state: str


class Prose:
    """Writes answer and thought, and finds the markers that end one, begin the other, or open a call.

    After `scan`, `opening` is set where a call may begin, and `acted` says whether there is more to do with the text.
    """

    def __init__(self, spec: Format, calls: bool, output: Output, single_tokens: Collection[str]) -> None:
        self._spec = spec
        self._output = output
        self._tables = tables_of(spec)
        self._answer, self._thinking = modes_of(spec, calls)
        self._single_tokens = frozenset(single_tokens)
        # Whether an answer without a marker may be a call.
        self._bare = bool(spec.bare) and (calls or spec.messages)
        self._fences = Fences()
        # None once a call has turned out to be text: it may have left a string open.
        self._strings: JsonStrings | None = JsonStrings()
        self._mode = self._answer
        # Line feeds of markup still to be dropped.
        self._swallow = 0
        # Nothing of the answer has been written; a call was the last thing written.
        self._at_start, self._after_call = True, False
        self._thought_empty = False
        # A call has turned out to be text.
        self._spares = False
        # A call has ended a thought, whose own end may still come.
        self._unclosed = False
        # Only calls may follow: other text makes `scan` return -1.
        self.only_calls = False
        # The token limit ended the text, so that no end-of-turn token did.
        self.limited = False
        self.acted = False
        self.opening: Opening | None = None

    @property
    def thinking(self) -> bool:
        """Whether the text stands inside a thought."""
        return self._mode is self._thinking

    @property
    def awaits_call(self) -> bool:
        """Whether a call without a marker may begin with what comes next."""
        return self._bare and self._at_start

    @property
    def common(self) -> tuple[object, ...]:
        """What is only read, so that copies may share it."""
        return self._spec, self._tables, self._answer, self._thinking, self._single_tokens

    def prime(self, suffix: str, initial: str | None) -> None:
        """Find out whether the prompt has left a thought open; where it has no marker of one, `initial` decides."""
        last, opened = -1, initial == "reasoning"
        thought = self._spec.thoughts[0] if self._spec.thoughts else None
        for one in self._spec.thoughts:
            for marker, opens in ((one.open, True), (one.close, False)):
                at = suffix.rfind(marker)
                if at > last:
                    last, opened, thought = at, opens, one
        if opened and thought is not None:
            self._mode = self._thinking
            self._thought_empty = last < 0
            if last < 0 or suffix.endswith(thought.open):
                self._swallow = thought.after_open

    def resume(self, thinking: bool, after_call: bool) -> None:
        """Calls are over, or a message's header is."""
        self._unclosed = self.thinking and after_call
        self._mode = self._thinking if thinking else self._answer
        self._thought_empty = True
        self._after_call = after_call
        # Behind a message's header there is no place for a call without a marker any more.
        self._at_start = self._at_start and not (after_call or self._spec.messages)
        if after_call and self._strings is not None:
            self._strings = JsonStrings()

    def spare(self, marker: str, after_call: bool) -> None:
        """What began with the marker is no call; `after_call`: but calls stood before it."""
        self._spares = any(marker.strip() == opener.strip() for opener in self._spec.openers)
        if self._spares:
            self._strings = None
        if after_call:
            self._mode, self._after_call = self._answer, True

    def write(self, text: str) -> None:
        """Add to the answer or the thought."""
        if not text:
            return
        if self._mode is self._answer:
            self._fences.add(text)
            if self._strings is not None:
                self._strings.add(text)
            self._at_start = self._after_call = False
        else:
            self._thought_empty = False
        self._output.put(self._mode.kind, text)

    def plain(self, text: str) -> bool:
        """Write the text if it is clear at a glance that there is nothing in it but text; says whether it was."""
        if self._swallow or self._at_start or self._after_call or self.only_calls or not text:
            return False
        if self._mode.markers.first.search(text) is not None:
            return False
        self.write(text)
        return True

    def scan(self, window: Window, pos: int) -> int:
        """Read from `pos` on. Returns where the text begins that is to be seen again, -1 if `only_calls` is hurt."""
        text, final = window.text, window.final
        end = len(text)
        self.acted = False
        while self._swallow and pos < end:
            if text[pos] != "\n":
                self._swallow = 0
                break
            self._swallow -= 1
            pos += 1
        if self._mode is self._answer and (self._after_call or self._at_start):
            space = pos
            while space < end and text[space].isspace() and space - pos <= _LONGEST_SPACE:
                space += 1
            if space == end:
                if not final:
                    return pos
                if self._after_call and not text[pos:].strip("\n"):
                    return end
            elif space - pos <= _LONGEST_SPACE:
                stop = self._head(window, pos, space)
                if stop is not None:
                    return stop
            if self.only_calls:
                return -1
        elif self.only_calls and pos < end:
            return -1
        return self._find(window, pos)

    def _head(self, window: Window, pos: int, space: int) -> int | None:
        """Where nothing was written yet, or a call was: the first text behind the white space from `pos` to `space`.

        None if that is text like any other.
        """
        text, final, spec = window.text, window.final, self._spec
        found = self._mode.markers.at(text, space, final)
        silent = spec.silent if self._at_start else ""
        if isinstance(found, Wait) or (silent and not final and silent.startswith(text[space:])):
            return pos
        if silent and text.startswith(silent, space):
            self._think(spec.thoughts[0])
            return space + len(silent)
        if found is not None:
            literal, marker = found
            if marker.does == "end" and self._after_call and not text[pos:space].strip("\n"):
                counts = window.is_token(space) or space + len(literal) == len(text)
                return self._find(window, space) if counts or not self.only_calls else None
            if marker.does == "call" and self._opens(literal, window.is_token(space)):
                return self._open(pos, space, literal, marker.state)
        elif self._at_start and self._bare and (not spec.bare_first or text[space] in spec.bare_first):
            return self._open(pos, space, "", spec.bare)
        return None

    def _find(self, window: Window, pos: int) -> int:
        """Text up to the next marker that is one."""
        text, final, mode = window.text, window.final, self._mode
        markers, newlines = mode.markers, mode.newlines
        at, end = pos, len(text)
        while (hit := markers.first.search(text, at)) is not None:
            at = mark = hit.start()
            while newlines and mark < end and text[mark] == "\n":
                mark += 1
            found = markers.at(text, mark, final)
            if isinstance(found, Wait):
                at = max(at, mark - newlines)
                self.write(text[pos:at])
                return at
            if found is not None:
                literal, marker = found
                before = max(at, mark - marker.newlines)
                self.write(text[pos:before])
                pos = before
                alone, last = window.is_token(mark), mark + len(literal) == end
                if marker.does == "end" and last and not (alone or final):
                    return pos
                if self._acts(marker, literal, alone, last):
                    return self._act(marker, literal, before, mark)
            at = mark + 1 if mark == at or found is not None else mark
        self.write(text[pos:])
        return end

    def _acts(self, marker: Marker, literal: str, alone: bool, last: bool) -> bool:
        """Whether the literal is markup where it stands, and not text about markup."""
        thinking = self._mode is self._thinking
        if not (alone or thinking or marker.does == "end") and self._is_quoted():
            return False
        if marker.does == "think" and thinking:
            # The opening marker at the head of a thought that only `initial` knows of.
            return self._thought_empty
        if marker.does == "answer" and not thinking:
            if self._unclosed and not self._fences.inside():
                self._unclosed = False
                return True
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
            return last and not self.limited
        if marker.does == "think":
            return (marker.stray == "always" or self._fences.at_line_start()) and not self._fences.inside()
        return True

    def _opens(self, literal: str, alone: bool) -> bool:
        return alone or (literal not in self._single_tokens and not self._is_quoted())

    def _is_quoted(self) -> bool:
        """Whether the answer stands in code, or in a string of JSON, where a marker is only spoken of."""
        in_string = self._strings is not None and self._strings.inside()
        return in_string or (self._fences.inside() and not self._spec.fenced)

    def _act(self, marker: Marker, literal: str, start: int, mark: int) -> int:
        if marker.does == "call":
            return self._open(start, mark, literal, marker.state)
        self.acted = True
        if marker.does == "think" and marker.thought is not None:
            self._think(marker.thought)
        elif marker.thought is not None:
            self._mode = self._answer
            self._swallow = marker.thought.after_close
        elif marker.after:
            self._swallow = marker.after
        return mark + len(literal)

    def _think(self, thought: Thought) -> None:
        self.acted = True
        self._mode = self._thinking
        self._thought_empty = True
        self._swallow = thought.after_open

    def _open(self, start: int, mark: int, literal: str, state: str) -> int:
        self.acted = True
        if not literal:
            self._at_start = False
        self.opening = Opening(start, mark, literal, state)
        return mark + len(literal)
