"""What a turn may look like: a format and a request's tools as the text of a grammar, in llguidance's Lark."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from node.serving.grammar import patterns
from node.serving.grammar.framing import Custom, Manner, Sheet, Tool
from node.serving.grammar.lark import Lark, choice, join, regex
from parsers.format import Format, Header, Wire
from tandem.errors import InvalidRequestError

__all__ = ["Custom", "Grammar", "GrammarWriter", "Tool"]


@dataclass(frozen=True, slots=True)
class Grammar:
    """``text`` in Lark; ``warnings`` say what of the schemas was dropped, where, and why."""

    text: str
    warnings: tuple[str, ...] = ()


class GrammarWriter:
    """Writes the grammars of one model.

    Args:
        spec: the format that the model speaks.
        markers: text and id of every added token of its tokenizer.
        validate: says what is wrong with a grammar's text, or "". It is asked about every grammar; if one is refused,
            about each pattern and bound of its schemas, which are then dropped one by one.
    """

    def __init__(self, spec: Format, markers: Mapping[str, int], validate: Callable[[str], str]) -> None:
        self._spec = spec
        self._markers = markers
        self._validate = validate
        self._wires = (spec.wire, *spec.wire.also)

    def wakes(self, call_text: str, started: bool) -> bool:
        """Whether, in free text, ``calls`` takes over.

        ``call_text`` is the text since the parser met a call's opening, that included; ``started`` says that the
        parser has reported the call. White space is not looked at.
        """
        return started or any(self._commits(wire, call_text) for wire in self._wires)

    @property
    def openers(self) -> tuple[int, ...]:
        """The tokens to be masked where no call is wanted: those that open calls and nothing else."""
        spec = self._spec
        answers = (*spec.dropped, *spec.ends, *(text for one in spec.thoughts for text in (one.open, one.close)))
        calls = [one for one, state in spec.openers.items() if not isinstance(spec.states[state], Header)]
        found = [hit for one in calls for hit in Lark(self._markers).markers_in(one)]
        return tuple(dict.fromkeys(self._markers[one] for one in found if not any(one in text for text in answers)))

    def calls(self, tools: Sequence[Tool], *, several: bool) -> Grammar:
        """One block of calls, from its very beginning on (what ``wakes`` was asked about is to be fed first).

        Where calls stand alone a block is one call. Raises InvalidRequestError if no grammar can be made of the tools.
        """

        def start(sheet: Sheet) -> str:
            blocks = [way for wire in self._wires for way in self._begun(sheet, wire, tools, several)]
            return join(f"{_blank(64)}?", choice(blocks))

        return self._written(start)

    def required(self, tools: Sequence[Tool], *, several: bool, thought: bool) -> Grammar:
        """The whole rest of a turn: at least one call and nothing else.

        With ``thought`` the opening marker of a thought is another way, with which the grammar ends. Without, the
        text may begin with what stands between a thought and a call. Raises as ``calls``, and if no tool can ever be
        called, because nothing can satisfy its schema.
        """

        def start(sheet: Sheet) -> str:
            there = sheet.callable_tools(tools)
            if not there:
                raise InvalidRequestError((sheet.warnings or ["there is no tool to call"])[0], param="tools")
            return join(f"{_blank(3)}?", choice([*self._turn(sheet, there, several), *self._thought(sheet, thought)]))

        return self._written(start)

    def answer(
        self, schema_json: str | None, tools: Sequence[Tool] = (), *, several: bool = True, thought: bool = False
    ) -> Grammar:
        """JSON of the schema (any object without one) in the format's frame for answers; or calls of the tools.

        ``thought``: as ``required``. Raises as ``calls``, and if nothing can satisfy the schema.
        """

        def start(sheet: Sheet) -> str:
            there = sheet.callable_tools(tools)
            calls = self._turn(sheet, there, several, "beside") if there else []
            answer = sheet.answer(self._wire, schema_json)
            others = [*calls, *self._thought(sheet, thought)]
            frame = self._wire.answer[0]
            if not frame or frame in self._spec.dropped or _indent(frame):
                return join(f"{_blank(3)}?", choice([answer, *others]))
            return choice([answer, join(f"{_blank(3)}?", choice(others)) if others else ""])

        return self._written(start)

    def none(self) -> Grammar | None:
        """Any text without the markers that open calls; None where ``openers`` says it all."""
        spec, lark, masked = self._spec, Lark(self._markers), set(self.openers)
        texts = [text for text, state in spec.openers.items() if not isinstance(spec.states[state], Header)]
        if spec.messages and spec.wire.style == "parameters":
            texts.append(spec.wire.parameter[0])
        elif spec.messages:
            texts.extend(f"to={one.prefix}" for one in spec.states.values() if isinstance(one, Header) and one.prefix)
        # A fence may hold what is no call.
        texts = [text for text in texts if not text.startswith("```")]
        texts = [text for text in texts if not masked & {self._markers[one] for one in lark.markers_in(text)}]
        whole = [text.strip() for text in texts if not lark.markers_in(text)]
        # Of a marker with a token in it, that token may begin something else: what stands behind it may not follow.
        behind = [lark.split(self._past(lark, text))[0] for text in texts if lark.markers_in(text)]
        parts = [regex(one) for one in patterns.without(tuple(whole))]
        if any(behind):
            # A complement alone would allow bytes that are no text.
            parts += [] if parts else [regex(patterns.ANY)]
            parts.append("~" + regex(patterns.either(filter(None, behind)) + patterns.ANY))
        return Grammar(f"start: TEXT\nTEXT: {' & '.join(parts)}\n") if parts else None

    @staticmethod
    def _past(lark: Lark, text: str) -> str:
        marker = lark.markers_in(text)[0]
        return text[text.index(marker) + len(marker) :]

    @property
    def _wire(self) -> Wire:
        """The wire that the model's vocabulary is made for."""
        if self._spec.wire.trigger in self._markers:
            return self._spec.wire
        return next((wire for wire in self._wires if wire.trigger in self._markers), self._spec.wire)

    def _commits(self, wire: Wire, text: str) -> bool:
        """Whether a text is the beginning of a call that the wire's trigger or the omission of its opening makes."""
        squeezed = _squeeze(text)
        leads = ["", *(lead for lead in map(_squeeze, wire.lead) if squeezed.startswith(lead))]
        if wire.trigger.endswith("to="):
            return any(self._calls_recipient(squeezed[len(lead) :]) for lead in leads)
        triggers = [_squeeze(wire.trigger)] if wire.trigger else []
        if wire.omitted:
            rest = (wire.opening + wire.head)[len(wire.omitted) :]
            triggers.extend(_squeeze(one) for one in self._spec.openers if rest.startswith(one))
        return any(squeezed[len(lead) :].startswith(trigger) for lead in leads for trigger in triggers)

    def _calls_recipient(self, text: str) -> bool:
        """Whether a message's header names a recipient that is no person and no thought, or a call opens at once."""
        if any(
            text.startswith(opener) and not isinstance(self._spec.states[state], Header)
            for opener, state in self._spec.openers.items()
        ):
            return True
        hit = re.match(r"to=([^<]+)", text)
        known = [
            name for one in self._spec.states.values() if isinstance(one, Header) for name in one.people + one.thoughts
        ]
        return hit is not None and not any(name.startswith(hit[1]) for name in known)

    def _begun(self, sheet: Sheet, wire: Wire, tools: Sequence[Tool], several: bool) -> list[str]:
        """The ways in which a block may have been begun by the model, up to its end."""
        whole = wire.opening + wire.head
        cuts = ["", *(lead for lead in wire.lead if whole.startswith(lead)), *([wire.omitted] if wire.omitted else [])]
        several = several and bool(wire.closing)
        ways = [
            sheet.block(wire, tools, several=several, cut=cut + _indent(whole[len(cut) :]), manner="begun")
            for cut in cuts
        ]
        leads = [lead for lead in wire.lead if not whole.startswith(lead)]
        for lead in leads:
            ways.append(join(sheet.lark.text(lead), sheet.block(wire, tools, several=several, manner="begun")))
        return ways

    def _turn(self, sheet: Sheet, tools: Sequence[Tool], several: bool, manner: Manner = "exact") -> list[str]:
        """The ways in which a turn of calls may go on from where the prompt or a thought has left it."""
        wire, whole = self._wire, self._wire.opening + self._wire.head
        cuts = ["", *(lead for lead in wire.lead if whole.startswith(lead))]
        ways = [
            sheet.block(wire, tools, several=several, cut=cut + _indent(whole[len(cut) :]), manner=manner)
            for cut in cuts
        ]
        for lead in wire.lead:
            if not whole.startswith(lead):
                ways.append(join(sheet.lark.text(lead), sheet.block(wire, tools, several=several, manner=manner)))
        return ways

    def _thought(self, sheet: Sheet, wanted: bool) -> list[str]:
        """The opening marker of a thought: the one that the vocabulary has a token for, if any."""
        thoughts = self._spec.thoughts if wanted else ()
        known = (one for one in thoughts if sheet.lark.markers_in(one.open))
        found = next(known, thoughts[0] if thoughts else None)
        return [sheet.lark.text(found.open.lstrip())] if found is not None else []

    def _written(self, start: Callable[[Sheet], str]) -> Grammar:
        error = ""
        for careful in (False, True):
            lark = Lark(self._markers)
            sheet = Sheet(self._spec, lark, self._validate, careful=careful)
            text = lark.grammar(start(sheet))
            error = self._validate(text)
            if not error:
                return Grammar(text, tuple(dict.fromkeys(sheet.warnings)))
        raise InvalidRequestError(
            f"no grammar can be made of the schemas: {error.partition(chr(10))[0]}", param="tools"
        )


def _blank(most: int) -> str:
    return regex(f"[\\x{{20}}\\t\\r\\n]{{1,{most}}}")


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _indent(text: str) -> str:
    """The white space that a text begins with."""
    return text[: len(text) - len(text.lstrip())]
