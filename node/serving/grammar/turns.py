"""From what a request demands to the constraint of its turn, for one served name of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from types import MappingProxyType
from typing import Final, NamedTuple

from node.serving.grammar.calls import Custom, Grammar, GrammarWriter
from node.serving.grammar.compiler import Compiled, GrammarCompiler, Validate
from node.serving.grammar.constraint import Turn, TurnConstraint
from node.serving.grammar.demand import Demand
from node.serving.grammar.reading import Reading
from node.serving.pieces import Vocabulary
from parsers import Format, Parser
from parsers.format import Thought
from tandem.errors import InvalidRequestError, TandemError

_LONGEST_CHECKED: Final = 16 * 1024
"""Characters of an input that are checked on the event loop: some milliseconds."""

WriteWith = Callable[[GrammarWriter], Grammar]


class Held(NamedTuple):
    """What holds a turn to a demand: nothing, where there is none.

    ``warnings`` say what of the demand is not held. ``checks`` say what is wrong with the arguments of a call, or "",
    by the tool's name, where only a finished call can be looked at.
    """

    constraint: TurnConstraint | None = None
    warnings: tuple[str, ...] = ()
    checks: Mapping[str, Callable[[str], str]] = MappingProxyType({})


class TurnGrammars:
    """Makes constraints. ``hold`` is for the event loop.

    Args:
        name: under which the model is served: formats may differ between names.
        spec: the format that the model speaks.
        vocabulary: of the model.
        compiler: of the model.
    """

    def __init__(self, name: str, spec: Format, vocabulary: Vocabulary, compiler: GrammarCompiler) -> None:
        self._name = name
        self._spec = spec
        self._vocabulary = vocabulary
        self._compiler = compiler
        self._writer = GrammarWriter(spec, compiler.tokens.markers, lambda text: "")

    async def hold(self, demand: Demand, parser: Parser, prompt_suffix: str, max_tokens: int) -> Held:
        """The constraint of one sequence, at its beginning.

        Args:
            demand: of the request.
            parser: primed with the prompt, for the constraint alone.
            prompt_suffix: what the parser was primed with.
            max_tokens: that may be sampled.

        Raises:
            InvalidRequestError: nothing can satisfy the demand, or it takes too much to be compiled.
            OverloadedError: too many grammars wait to be compiled.
        """
        if not self._compiler.stop_ids:
            raise InvalidRequestError("this model has no end-of-turn token", param=demand.param)
        if demand.json or demand.choice == "required":
            turn, warnings = await self._whole(demand, parser, prompt_suffix)
        elif demand.choice == "auto":
            turn, warnings = await self._calls(demand)
        else:
            turn, warnings = await self._none()
        checks = {}
        for tool in demand.tools:
            if tool.custom is not None and tool.custom.syntax == "lark":
                checks[tool.name] = await self._check(tool.custom)
        tokens, masks = self._compiler.tokens, self._compiler.masks
        reading = Reading(self._vocabulary, tokens, parser)
        return Held(TurnConstraint(turn, reading, tokens, masks, max_tokens), warnings, checks)

    async def _whole(self, demand: Demand, parser: Parser, prompt_suffix: str) -> tuple[Turn, tuple[str, ...]]:
        """Calls, or JSON, and nothing else, but for a thought before it."""
        thoughts = self._spec.thoughts
        thinks = bool(thoughts) and (parser.in_reasoning or not any(one.close in prompt_suffix for one in thoughts))

        def write(writer: GrammarWriter, *, thought: bool) -> Grammar:
            tools, several = demand.tools, demand.several
            if demand.json:
                return writer.answer(demand.schema, tools, several=several, thought=thought)
            return writer.required(tools, several=several, thought=thought)

        rest = await self._compile((demand, False), partial(write, thought=False), demand.param) if thinks else None
        whole = rest
        if rest is None or not parser.in_reasoning:
            whole = await self._compile((demand, thinks), partial(write, thought=thinks), demand.param)
        assert whole is not None
        turn = Turn(
            self._compiler.stop_ids,
            whole=partial(self._compiler.matcher, whole),
            rest=partial(self._compiler.matcher, rest) if rest is not None else None,
            thoughts=_last_opened_first(thoughts, prompt_suffix),
            lead=self._lead,
            banned=self._opening - self._closing,
        )
        return turn, whole.warnings

    async def _calls(self, demand: Demand) -> tuple[Turn, tuple[str, ...]]:
        """A free answer in which calls, once begun, are held to their grammar."""
        calls = await self._compile(
            demand, lambda writer: writer.calls(demand.tools, several=demand.several), demand.param
        )
        turn = Turn(
            self._compiler.stop_ids,
            calls=partial(self._compiler.matcher, calls),
            wakes=self._writer.wakes,
            single=not demand.several,
            sharp=self._sharp,
            overshoots=self._overshoots,
        )
        return turn, calls.warnings

    async def _none(self) -> tuple[Turn, tuple[str, ...]]:
        """Any answer without calls."""
        text = self._writer.none()
        if text is None:
            return Turn(self._compiler.stop_ids, banned=self._openers), ()
        compiled = await self._compile("none", lambda writer: text, "tool_choice")
        markers = frozenset(self._compiler.tokens.markers.values()) - self._compiler.stop_ids - self._openers
        start = partial(self._compiler.matcher, compiled)
        return Turn(self._compiler.stop_ids, text=start, markers=markers), compiled.warnings

    async def _check(self, custom: Custom) -> Callable[[str], str]:
        """What is wrong with a call to a custom tool under a grammar in Lark.

        Its input is held to the grammar only where the format writes it as it is, and not in JSON.
        """
        compiled = await self._compile(custom, lambda writer: Grammar(custom.definition), "tools")
        return partial(_wrong_input, self._compiler, compiled)

    async def _compile(self, what: object, write: WriteWith, param: str) -> Compiled:
        def written(validate: Validate) -> Grammar:
            return write(GrammarWriter(self._spec, self._compiler.tokens.markers, validate))

        return await self._compiler.compile((self._name, what), written, param=param)

    @cached_property
    def _openers(self) -> frozenset[int]:
        return frozenset(self._writer.openers)

    @cached_property
    def _lead(self) -> tuple[int, ...]:
        """What begins a message behind a thought, in formats that write messages."""
        wire = self._spec.wire
        return self._compiler.tokens.spell(wire.lead[0]) if self._spec.messages and wire.lead else ()

    @cached_property
    def _opening(self) -> frozenset[int]:
        """The tokens that may begin a call, whatever else they begin."""
        return frozenset(token for text, token in self._compiler.tokens.markers.items() if text in self._spec.openers)

    @cached_property
    def _closing(self) -> frozenset[int]:
        """The tokens in the markers that close thoughts."""
        markers = self._compiler.tokens.markers
        closers = [thought.close for thought in self._spec.thoughts]
        return frozenset(token for text, token in markers.items() if any(text in close for close in closers))

    @cached_property
    def _triggers(self) -> list[str]:
        return [wire.trigger for wire in (self._spec.wire, *self._spec.wire.also)]

    @cached_property
    def _sharp(self) -> bool:
        """Whether every marker that opens calls, and every one that wakes the grammar, is one token."""
        markers = (*self._spec.openers, *self._triggers)
        return not self._spec.bare and all(marker in self._compiler.tokens.markers for marker in markers)

    @cached_property
    def _overshoots(self) -> frozenset[int]:
        """Tokens in which what wakes the grammar stands with more text."""
        if self._sharp:
            return frozenset()
        triggers = [trigger.encode() for trigger in self._triggers if trigger]
        return frozenset(
            token
            for token, data in enumerate(self._compiler.tokens.bytes_of)
            if any(trigger in data and trigger != data for trigger in triggers)
        )


def _wrong_input(compiler: GrammarCompiler, compiled: Compiled, arguments: str) -> str:
    try:
        text = str(json.loads(arguments)["input"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "the call has no input"
    if len(text) > _LONGEST_CHECKED:
        return f"the input is longer than {_LONGEST_CHECKED} characters, and was not checked"
    try:
        matcher = compiler.matcher(compiled)
        tokens = compiler.tokens.write(text.encode())
        fits = matcher.consume_all(tokens) == len(tokens) and matcher.accepting
    except TandemError as error:
        return error.message
    return "" if fits else "the input does not follow the tool's grammar"


def _last_opened_first(thoughts: tuple[Thought, ...], prompt_suffix: str) -> tuple[Thought, ...]:
    """The kinds of thought in the order in which the prompt has opened them last."""
    return tuple(sorted(thoughts, key=lambda one: -prompt_suffix.rfind(one.open)))
