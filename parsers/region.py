"""The part of an answer from an opening marker on: runs the states of a format's calls."""

from typing import Any

from parsers.call import Call, Rules
from parsers.capture import bare_name, may_be
from parsers.format import (
    END,
    Capture,
    Edge,
    ElementArguments,
    Expect,
    Format,
    Header,
    JsonArguments,
    RawValue,
    State,
)
from parsers.header import is_header, read_header
from parsers.json_object import JsonObject
from parsers.literals import WAIT, Wait
from parsers.output import CONTENT, Output
from parsers.readers import reader_of
from parsers.tables import Tables
from parsers.transducers.elements import Elements
from parsers.window import Piece, Window

_LONGEST_SPACE = 64
_LONGEST_CAPTURE = 1024
_NOTHING = Window("", [], False)


class Region:
    """Calls between one opening marker and its end.

    `outcome` says when the text goes elsewhere again: "left" to the answer, "thought" to a thought; "failed" if what
    is held was no call.
    """

    __slots__ = (
        "_edges",
        "_entered",
        "_key",
        "_kind",
        "_output",
        "_reader",
        "_rules",
        "_spec",
        "_state",
        "_strewn",
        "_tables",
        "_window",
        "call",
        "finished",
        "held",
        "limited",
        "outcome",
        "parent",
        "tail",
    )

    def __init__(
        self,
        spec: Format,
        tables: Tables,
        output: Output,
        rules: Rules,
        state: str,
        held: list[Piece],
        parent: "Region | None" = None,
    ) -> None:
        self._spec = spec
        self._tables = tables
        self._output = output
        self._rules = rules
        # The raw text since the marker or the last complete call, as long as it may yet turn out to be no call.
        self.held: list[Piece] | None = held
        # The call whose arguments this one would interrupt, and the text that it had yet to see.
        self.parent = parent
        self.tail = ""
        self.outcome = ""
        # The token limit ended the text.
        self.limited = False
        # What `run` sees.
        self._window = _NOTHING
        # How many calls are over, and how many states have been entered.
        self.finished = 0
        self._entered = 0
        self._kind = ""
        # A parameter's key, until its value begins or other text shows that there is none.
        self._key = ""
        # Reads what the state hands over; each kind of state has one of its own.
        self._reader: Any = None
        self.call = Call(rules, output)
        self._enter(state)

    @property
    def in_values(self) -> bool:
        """Whether the text stands among the values of a call that has started: what they hold is not looked at."""
        reader = self._reader
        return self.call.started and reader is not None and getattr(reader, "in_arguments", True)

    def run(self, window: Window, pos: int) -> int:
        """Read on from `pos`; returns where it stopped, for want of text or with an `outcome`."""
        self._window, text, final = window, window.text, window.final
        while not self.outcome:
            entered = self._entered
            pos = self._step(text, pos, final)
            if entered == self._entered:
                break
        return pos

    def close(self, rest: str = "", cut: bool = False) -> None:
        """End the call that has started: its arguments with `rest`, the text that could not be told from markup.

        `cut`: the token limit ended it.
        """
        if self._reader is not None:
            out: list[str] = []
            self._reader.finish(out, rest, cut)
            self._put_stray()
            self.call.write(out)
        if cut:
            self._key = ""
            self.call.cut()
        else:
            self._put_key()
            self.call.end()
        self.finished += 1
        self._reader = None
        deferred = self.call.deferred
        self.call = Call(self._rules, self._output)
        self.call.deferred = deferred

    def settle(self, rest: str) -> bool:
        """The text is over inside a call's header: whether the name that it has makes a call.

        `rest`: the end of the text, which nothing has been made of.
        """
        reader = self._reader
        named = isinstance(reader, JsonObject) and reader.only_named and not self._rules.bare
        if rest.strip() and not self.limited:
            # The model has ended in the midst of something else.
            return False
        return named and self._rules.sure and self.call.name in self._rules.tools and self._start()

    def _start(self) -> bool:
        if not self.call.ready():
            return False
        self._interrupt()
        self.call.start()
        if not self.call.deferred:
            self.held = None
        return True

    def _interrupt(self) -> None:
        """What began inside the arguments of another call is sure to be markup, so that call is over."""
        if self.parent is not None:
            self.parent.call.warn("the call was cut off by the next one")
            self.parent.close(self.parent.tail)
            self.parent = None

    def _step(self, text: str, pos: int, final: bool) -> int:
        state = self._state
        if isinstance(state, Expect):
            return self._expect(state, text, pos, final)
        if isinstance(state, RawValue):
            pos = self._reader.run(text, pos, final)
            edge = self._reader.edge
            return pos if edge is None else self._follow(edge, text, pos)
        if isinstance(state, Capture):
            return self._capture(state, text, pos, final)
        if isinstance(state, Header):
            return self._header(state, text, pos, final)
        if isinstance(state, JsonArguments) and not self.call.started:
            return self._before_json(state, text, pos, final)
        return self._arguments(state, text, pos, final)

    def _enter(self, name: str) -> None:
        self._entered += 1
        # Text that belongs to nothing has been found in this state.
        self._strewn = False
        self._state: State = self._spec.states[name]
        self._edges: Any = self._tables.edges.get(name)
        if isinstance(self._state, RawValue):
            self._key = ""
        self._reader = reader_of(name, self._spec, self._tables, self.call, self._kind, self._start, self._rules.bare)

    def _fail(self) -> None:
        if self.call.started:
            self.call.warn("the call breaks off")
            self._leave()
        else:
            self.outcome = "failed"

    def _leave(self, empty: bool = False, complete: bool = False) -> None:
        if self.call.started:
            self.close(cut=self.limited and not complete)
        self.outcome = "left" if self.finished or empty else "failed"

    def _follow(self, edge: Edge, text: str, pos: int) -> int:
        """Take an edge whose literal stands at `pos`."""
        if not edge.keep:
            pos += len(edge.literal)
        self._kind = edge.kind
        if edge.do == "start" and not self.call.started and not self._start():
            self._fail()
        elif edge.to == END:
            # Markers with nothing between them are markup, except in a thought.
            self._leave(empty=self._rules.sure and not self.call.name, complete=True)
        elif edge.do == "finish" and self.call.started:
            self._next(edge.to, pos)
        else:
            self._enter(edge.to)
        return pos

    def _next(self, to: str, pos: int) -> None:
        """The call is complete; what follows is held until it turns out to be another."""
        self.close()
        if not self.call.deferred:
            self.held = [("", False), *self._window.pieces(pos)]
        self._enter(to)

    def _expect(self, state: Expect, text: str, pos: int, final: bool) -> int:
        edges = self._edges
        while True:
            at = pos
            if state.space and not self._strewn:
                while at < len(text) and text[at].isspace() and at - pos <= _LONGEST_SPACE:
                    at += 1
            found = edges.at(text, at, final)
            if found is WAIT:
                return pos
            if found is not None:
                return self._follow(found[1], text, at)
            if not self.call.started and not (state.otherwise == "end" and self.finished):
                self._fail()
                return pos
            if final and self._is_half(text[at:]):
                pos = at = len(text)
            out = self._tables.out.at(text, at, final) if at < len(text) else None
            if isinstance(out, Wait):
                return pos
            if out is not None and not out[1].keep:
                # The end of all calls, though that of this one is missing.
                return self._follow(out[1], text, at)
            if out is not None or state.otherwise == "end" or (final and at == len(text)):
                self._leave()
                return pos
            self.call.warn("text inside the call")
            self._strewn = True
            self._put_key()
            hits = (edges.first.search(text, at + 1), self._tables.out.first.search(text, at + 1))
            stop = min((hit.start() for hit in hits if hit is not None), default=len(text))
            self._output.put(CONTENT, text[pos:stop])
            pos = stop

    def _capture(self, state: Capture, text: str, pos: int, final: bool) -> int:
        edges = self._edges
        at = pos
        # However the text is cut, the limit falls at the same place.
        window = text[: pos + _LONGEST_CAPTURE + 1]
        over = len(window) < len(text)
        while (hit := edges.first.search(window, at)) is not None:
            at = hit.start()
            found = edges.at(window, at, final or over)
            if found is WAIT:
                break
            if found is not None:
                taken = text[pos:at].strip()
                if self._marks(text, pos, at, found[0]) or not self._may_be(state, taken, whole=True):
                    self._fail()
                    return pos
                self._take(state, taken)
                return self._follow(found[1], text, at)
            at += 1
        if final and self.limited and self.finished and self._tables.out.starts(text[pos:].strip()):
            # It is no name, but half of a marker.
            self._leave()
            return len(text)
        end = min(len(text), pos + _LONGEST_CAPTURE)
        if self._marks(text, pos, end) or not self._may_be(state, text[pos:end].strip(), whole=False):
            self._fail()
            return pos
        if not (final or over):
            return pos
        if final and state.partial and not self.limited:
            self._take(state, edges.without_start(text[pos:]).strip())
            if self.call.name in self._rules.tools and self._start():
                self._leave()
                return len(text)
        if not self.call.started:
            self._fail()
            return pos
        if over or not self.limited:
            self._put_key()
            self._output.put(CONTENT, window[pos:])
        self._leave()
        return len(window)

    def _may_be(self, state: Capture, text: str, whole: bool) -> bool:
        return may_be(state, text, whole, self._rules.tools)

    def _is_half(self, rest: str) -> bool:
        """Whether the text ends in the midst of a marker that may stand here.

        After a call a single character need not be one, unless the token limit has cut it.
        """
        if self.limited:
            return bool(self._edges.starts(rest)) or self._tables.out.starts(rest)
        return self.finished > 0 and len(rest) > 1 and bool(self._edges.starts(rest))

    def _put_key(self) -> None:
        """Give out a key that gets no value."""
        if self._key:
            self.call.warn("a key without a value")
            self._output.put(CONTENT, self._key)
            self._key = ""

    def _put_stray(self) -> bool:
        """Give out text that the reader has found between elements; says whether there was any."""
        reader = self._reader
        if not isinstance(reader, Elements) or not reader.stray:
            return False
        self.call.warn("text inside the call")
        self._output.put(CONTENT, reader.stray)
        reader.stray = ""
        return True

    def _marks(self, text: str, pos: int, end: int, literal: str = "") -> bool:
        """Whether a marker that opens or ends something begins before `end`, where the literal stands."""
        seen = text[pos : end + len(literal)]
        return any(0 <= seen.find(marker) < end - pos for marker in self._tables.never_names)

    def _take(self, state: Capture, text: str) -> None:
        call = self.call
        if state.escaped:
            text = text.replace("&quot;", '"').replace("&amp;", "&")
        if state.what == "id" or (state.what == "name" and state.numbered):
            call.call_id = text
        if state.what == "name":
            call.name = bare_name(state, text, self._rules.tools)
        elif state.what == "key":
            call.key = self._key = text

    def _header(self, state: Header, text: str, pos: int, final: bool) -> int:
        end = text.find(state.end, pos)
        limit = len(text) if end < 0 else end
        if not is_header(state, text[pos:limit], end >= 0):
            # Another message has begun, or this is none.
            self._fail()
            return pos
        if end < 0 or end + len(state.end) - pos > _LONGEST_CAPTURE:
            if final or len(text) - pos > _LONGEST_CAPTURE:
                self._fail()
            return pos
        kind, name = read_header(state, text[pos:end])
        behind = end + len(state.end)
        if kind != "call":
            self._interrupt()
            self.outcome = "thought" if kind == "thought" else "left"
            return behind
        if self.held is not None:
            # If this is no call, its header is text as a whole.
            raw = "".join(piece for piece, _ in self.held)
            self.held = [(raw[: len(raw) - (len(text) - behind)], False), *self._window.pieces(behind)]
        if not self._rules.wanted:
            self._fail()
            return pos
        self.call.name = name
        self._enter(state.to)
        return behind

    def _before_json(self, state: JsonArguments, text: str, pos: int, final: bool) -> int:
        """The call starts with its arguments, or is over without."""
        at = pos
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text) and not final:
            return at
        word = text[at : at + 4]
        if "null".startswith(word) and word != "null" and word and not final:
            return at
        if word[:1] in ("{", '"') or word == "null":
            if not self._start():
                self._fail()
                return at
            return self._arguments(state, text, at, final)
        follow = self._tables.edges[state.to].at(text, at, final)
        if follow is WAIT:
            return pos
        if (follow is None and at < len(text)) or not self._start():
            self._fail()
            return pos
        if final and self.limited:
            self._leave()
        else:
            self._next(state.to, at)
        return at

    def _arguments(self, state: Any, text: str, pos: int, final: bool) -> int:
        reader = self._reader
        while True:
            out: list[str] = []
            pos = reader.run(text, pos, out)
            if out:
                self.call.write(out)
            if isinstance(state, ElementArguments) and self._put_stray():
                continue
            if reader.failed:
                self._fail()
                return pos
            if reader.done:
                self._next(state.to, pos)
                return pos
            if not reader.odd:
                return pos
            # A character that the notation does not have: the end of a broken call, or part of a broken value.
            found = self._tables.behind[state.to].at(text, pos, final)
            if isinstance(found, Wait):
                return pos
            if found is not None:
                break
            out = []
            pos = reader.skip_odd(text, pos, out)
            self.call.write(out)
        if not self.call.started:
            self._fail()
            return pos
        self.call.warn("the call ends inside its arguments")
        self._next(state.to, pos)
        return pos
