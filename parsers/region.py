"""The part of an answer from an opening marker on: runs a format's call states and writes its calls."""

from collections.abc import Mapping
from typing import Any

from parsers import schema
from parsers.format import END, Capture, Edge, Expect, Format, JsonArguments, JsonCall, RawValue, State
from parsers.json_object import JsonObject
from parsers.literals import WAIT, Literals, Wait
from parsers.output import ARGUMENTS, CONTENT, Output
from parsers.transducers.json_value import JsonValue
from parsers.transducers.raw_text import RawText

_LONGEST_SPACE = 64
_LONGEST_CAPTURE = 1024


class Tables:
    """What follows from a format alone: each state's literals, and those that end a call wherever they stand."""

    def __init__(self, spec: Format) -> None:
        self.edges: dict[str, Literals[Edge]] = {}
        out: dict[str, Edge] = {marker: Edge(marker, END, keep=True) for marker in (*spec.openers, *spec.ends)}
        for name, state in spec.states.items():
            if isinstance(state, (Expect, Capture, RawValue)):
                # The line feed that a raw value's end may have before it belongs to the end.
                also = "\n" if isinstance(state, RawValue) and state.newline else ""
                self.edges[name] = Literals([(edge.literal, edge) for edge in state.edges], also)
            if isinstance(state, Expect):
                out.update({edge.literal: edge for edge in state.edges if edge.to == END and len(edge.literal) > 1})
        self.out = Literals(out.items())


class Region:
    """Calls between one opening marker and its end. `outcome` says when the text goes elsewhere again."""

    def __init__(
        self,
        spec: Format,
        tables: Tables,
        tools: Mapping[str, schema.ToolSchema],
        output: Output,
        state: str,
        *,
        sure: bool,
        bare: bool,
        held: list[tuple[str, bool]],
        parent: "Region | None" = None,
    ) -> None:
        self._spec = spec
        self._tables = tables
        self._tools = tools
        self._output = output
        # Whether an undeclared name makes a call: not in a thought, not inside another call's arguments.
        self._sure = sure
        self._bare = bare
        # The raw text since the marker or the last complete call, as long as it may yet turn out to be no call.
        self.held: list[tuple[str, bool]] | None = held
        self.parent = parent
        self.outcome = ""
        # An undeclared name without a marker: a call only if the whole answer is calls.
        self.deferred = False
        # The token limit ended the text.
        self.limited = False
        # Of the text that `run` sees: where the newest piece begins, and whether that is one vocabulary token.
        self.fresh, self.single = 0, False
        # How many calls are over.
        self.finished = 0
        # What the interrupted call had yet to see.
        self.tail = ""
        self._reset()
        self._enter(state)

    def _reset(self) -> None:
        self.name = ""
        self.call_id: str | None = None
        self.started = False
        self._key = ""
        self._kind = ""
        self._keys: set[str] = set()
        self._early: list[str] = []
        self._warnings: list[str] = []
        self._value: Any = None

    # what a reader of the arguments needs

    def warn(self, text: str) -> None:
        """Remember what is wrong with the call."""
        if text not in self._warnings:
            self._warnings.append(text)

    def write(self, parts: list[str]) -> None:
        """Add to the arguments."""
        if self.started:
            for part in parts:
                self._output.put(ARGUMENTS, part)
        else:
            self._early.extend(parts)

    def start(self) -> bool:
        """The header is complete; false if it does not make a call."""
        name = self.name
        if not name:
            return False
        if name not in self._tools:
            if not self._sure or self._spec.declared_only or any(char.isspace() for char in name):
                return False
            self.warn(f"the tool {name!r} is not declared")
            if self._bare and not self.deferred:
                self.deferred = True
                self._output.shelve()
        if self.parent is not None and self.parent.started:
            self.parent.warn("the call was cut off by the next one")
            self.parent.close()
        self.parent = None
        self._sure = True
        self._output.start(name, self.call_id)
        self.started = True
        if not self.deferred:
            self.held = None
        early, self._early = self._early, []
        self.write(early)
        return True

    def close(self) -> None:
        """End the call that has started; what the token limit cut stays as it was written."""
        if self.limited:
            self.warn("the call was cut off by the token limit")
            self._end(self._output.arguments())
            return
        if self._keys:
            if isinstance(self._value, RawText):
                self._end_value()
            self.write(["}"])
        elif isinstance(self._value, (JsonObject, JsonValue)):
            out: list[str] = []
            self._value.finish() if isinstance(self._value, JsonObject) else self._value.finish(out)
            self.write(out)
        arguments = self._output.arguments()
        if not arguments.strip():
            arguments = "{}"
            self.write([arguments])
        elif not schema.is_json(arguments):
            self.warn("the arguments are not valid JSON")
        self._end(arguments)

    def _end(self, arguments: str) -> None:
        if self.deferred and len(self._warnings) > 1:
            self._output.spoilt = True
        self._output.end(arguments, "; ".join(self._warnings) or None, self.call_id)
        self.finished += 1
        self._reset()

    # the machine

    def in_text(self) -> bool:
        """Whether the text is a string of the arguments, where a marker of several tokens is only text."""
        value = self._value
        return self.started and (isinstance(value, RawText) or getattr(value, "in_string", False))

    def run(self, text: str, pos: int, final: bool) -> int:
        """Read on from `pos`; returns where it stopped, for want of text or with an `outcome`."""
        while not self.outcome:
            state, value = self._state, self._value
            stop = self._step(text, pos, final)
            if state is self._state and value is self._value:
                return stop
            pos = stop
        return pos

    def _step(self, text: str, pos: int, final: bool) -> int:
        state = self._state
        if isinstance(state, RawValue):
            return self._raw(state, text, pos, final)
        if isinstance(state, JsonCall):
            return self._object(state, text, pos, final)
        if isinstance(state, JsonArguments):
            return self._json(state, text, pos, final)
        if isinstance(state, Expect):
            return self._expect(state, text, pos, final)
        return self._capture(state, text, pos, final)

    def _enter(self, name: str) -> None:
        state: State = self._spec.states[name]
        self._state = state
        self._edges = self._tables.edges.get(name)
        if isinstance(state, JsonCall):
            self._value = JsonObject(state, self, self._bare)
        elif isinstance(state, JsonArguments):
            self._value = JsonValue(unwrap=True)
        elif isinstance(state, RawValue):
            types = self._tools[self.name].types((self._key,)) if self.name in self._tools else frozenset()
            self._value = RawText(types, self._kind)
            self._fresh = True
            self.write([("{" if not self._keys else ", ") + schema.quote(self._key) + ": "])
            self._keys.add(self._key)
        else:
            self._value = None

    def _fail(self) -> None:
        self.outcome = "failed"

    def _leave(self, empty: bool = False) -> None:
        if self.started:
            self.close()
        self.outcome = "left" if self.finished or empty else "failed"

    def _follow(self, edge: Edge, text: str, pos: int) -> int:
        """Take an edge whose literal stands at `pos`."""
        if not edge.keep:
            pos += len(edge.literal)
        self._kind = edge.kind
        if edge.do == "start" and not self.started and not self.start():
            self._fail()
        elif edge.to == END:
            # Markers with nothing between them are markup, except in a thought.
            self._leave(empty=self._sure and not self.name)
        else:
            if edge.do == "finish" and self.started:
                self._next(text, pos)
            self._enter(edge.to)
        return pos

    def _next(self, text: str, pos: int) -> None:
        self.close()
        self._again(text, pos)

    def _again(self, text: str, pos: int) -> None:
        if not self.deferred:
            fresh = max(pos, self.fresh)
            self.held = [("", False), (text[pos:fresh], False), (text[fresh:], self.single)]

    def _expect(self, state: Expect, text: str, pos: int, final: bool) -> int:
        edges = self._edges
        assert edges is not None
        while True:
            at = pos
            if state.space:
                while at < len(text) and text[at].isspace() and at - pos <= _LONGEST_SPACE:
                    at += 1
            found = edges.at(text, at, final)
            if isinstance(found, Wait):
                return pos
            if found is not None:
                return self._follow(found[1], text, at)
            if not self.started and not (state.otherwise == "end" and self.finished):
                self._fail()
                return pos
            if final and self.finished and edges.starts(text[at:]):
                # A closing marker that the end of the text cut off.
                pos = len(text)
            if state.otherwise == "end" or (final and at == len(text)):
                self._leave()
                return pos
            out = self._tables.out.at(text, at, final)
            if out is WAIT:
                return pos
            if out is not None:
                self._leave()
                return pos
            hit = edges.first.search(text, at + 1)
            self.warn("text inside the call")
            stop = len(text) if hit is None else hit.start()
            self._output.put(CONTENT, text[pos:stop])
            pos = stop

    def _capture(self, state: Capture, text: str, pos: int, final: bool) -> int:
        edges = self._edges
        assert edges is not None
        at = pos
        while (hit := edges.first.search(text, at)) is not None:
            at = hit.start()
            found = edges.at(text, at, final)
            if isinstance(found, Wait):
                return pos
            if found is not None:
                self._take(state, text[pos:at].strip())
                return self._follow(found[1], text, at)
            at += 1
        if state.declared and not self._may_be_declared(text[pos : pos + _LONGEST_CAPTURE]):
            self._fail()
            return pos
        if len(text) - pos > _LONGEST_CAPTURE or final:
            if not self.started and final and state.partial:
                self._take(state, edges.without_start(text[pos:]).strip())
                if self.start():
                    self._leave()
                    return len(text)
            if not self.started:
                self._fail()
                return pos
            if not final:
                self._output.put(CONTENT, text[pos:])
            self._leave()
            return len(text)
        return pos

    def _may_be_declared(self, text: str) -> bool:
        return any(name.startswith(text) or text.startswith(name) for name in self._tools)

    def _take(self, state: Capture, text: str) -> None:
        if state.what == "name":
            if state.numbered:
                self.call_id = text
                name, colon, number = text.rpartition(":")
                text = name if colon and number.isdigit() else text
            self.name = text.removeprefix(state.prefix)
        elif state.what == "id":
            self.call_id = text
        elif state.what == "key":
            self._key = text
        elif state.what == "type":
            self._kind = "string" if text == "string" else "json"

    def _object(self, state: JsonCall, text: str, pos: int, final: bool) -> int:
        reader: JsonObject = self._value
        while True:
            pos = reader.run(text, pos)
            if reader.failed:
                self._fail()
                return pos
            if reader.done:
                self._next(text, pos)
                self._enter(state.to)
                return pos
            if reader.value is None or not reader.value.odd:
                return pos
            pos, going = self._odd(reader.value, state.to, text, pos, final)
            if not going:
                return pos

    def _json(self, state: JsonArguments, text: str, pos: int, final: bool) -> int:
        value: JsonValue = self._value
        while True:
            if not self.started:
                at = pos
                while at < len(text) and text[at].isspace():
                    at += 1
                if at == len(text) and not final:
                    return at
                if text[at : at + 1] not in ("{", '"', "n"):
                    follow = self._tables.edges[state.to].at(text, at, final)
                    if follow is WAIT:
                        return pos
                    if (follow is None and at < len(text)) or not self.start():
                        self._fail()
                        return pos
                    self._next(text, at)
                    self._enter(state.to)
                    return at
                if not self.start():
                    self._fail()
                    return pos
            out: list[str] = []
            pos = value.run(text, pos, out)
            self.write(out)
            if value.done:
                self._next(text, pos)
                self._enter(state.to)
                return pos
            if not value.odd:
                return pos
            pos, going = self._odd(value, state.to, text, pos, final)
            if not going:
                return pos

    def _odd(self, value: JsonValue, to: str, text: str, pos: int, final: bool) -> tuple[int, bool]:
        """A character that JSON does not have: the end of a broken call, or part of a broken value."""
        found = self._tables.out.at(text, pos, final)
        if found is WAIT:
            value.odd = False
            return pos, False
        if found is None:
            out: list[str] = []
            pos = value.skip_odd(text, pos, out)
            self.write(out)
            return pos, True
        if not self.started:
            self._fail()
            return pos, False
        self.warn("the call ends inside its arguments")
        self._next(text, pos)
        self._enter(to)
        return pos, False

    def _raw(self, state: RawValue, text: str, pos: int, final: bool) -> int:
        edges, value = self._edges, self._value
        assert edges is not None
        out: list[str] = []
        if self._fresh and pos < len(text):
            self._fresh = False
            if state.newline and text[pos] == "\n":
                pos += 1
        at, stop, taken = pos, len(text), None
        while (hit := edges.first.search(text, at)) is not None:
            at = hit.start()
            end = at + 1 if state.newline and text[at] == "\n" else at
            found = edges.at(text, end, final)
            if found is not None and not isinstance(found, Wait):
                found = self._legal(found, text, end, final)
            if isinstance(found, Wait):
                stop = at
                break
            if found is not None:
                stop, taken = at, found[1]
                break
            at += 1
        if stop > pos:
            value.push(text[pos:stop], out)
        self.write(out)
        if taken is None:
            return stop
        self._end_value()
        return self._follow(taken, text, end)

    def _legal(self, found: tuple[str, Edge], text: str, pos: int, final: bool) -> tuple[str, Edge] | Wait | None:
        """The literal at `pos` ends the value only if something legal follows it."""
        edge = found[1]
        behind = pos + len(found[0])
        if edge.keep:
            # The value's own end is missing: this literal must do what it does behind one.
            own = self._tables.edges[edge.to].at(text, pos, True)
            if own is None or isinstance(own, Wait):
                return None
            edge = own[1]
            state = self._spec.states.get(edge.to)
            if isinstance(state, Capture):
                return self._names_a_parameter(found, edge.to, text, behind, final)
        elif edge.to == END:
            return found
        at, limit = behind, behind + _LONGEST_SPACE
        while at < len(text) and text[at].isspace() and at < limit:
            at += 1
        if at == len(text):
            return found if final else WAIT
        ahead: tuple[str, Edge] | Wait | None = None
        if edge.to != END:
            ahead = self._tables.edges[edge.to].at(text, at, False)
        if ahead is None:
            ahead = self._tables.out.at(text, at, False)
        if isinstance(ahead, Wait):
            return found if final else WAIT
        return None if ahead is None else found

    def _names_a_parameter(
        self, found: tuple[str, Edge], to: str, text: str, pos: int, final: bool
    ) -> tuple[str, Edge] | Wait | None:
        """Whether a parameter of the tool, not given yet, is named at `pos`."""
        edges = self._tables.edges[to]
        for at in range(pos, min(len(text), pos + _LONGEST_SPACE)):
            end = edges.at(text, at, final)
            if isinstance(end, Wait):
                return WAIT
            if end is not None:
                key = text[pos:at].strip()
                tool = self._tools.get(self.name)
                return found if tool is not None and tool.declares(key) and key not in self._keys else None
        return WAIT if len(text) < pos + _LONGEST_SPACE and not final else None

    def _end_value(self) -> None:
        out: list[str] = []
        self._value.close(out)
        self.write(out)
        self._value = None
