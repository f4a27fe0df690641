"""Constraints without a model: tokens are drawn at random from what the constraint allows, and then read back."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import jsonschema
from random_head import all_markers, make_folder
from running_paths import DEMO

import parsers.events as ev
from node.engine.tokenizer import load_tokenizer
from node.serving.grammar.calls import Tool
from node.serving.grammar.compiler import GrammarCompiler
from node.serving.grammar.constraint import TurnConstraint
from node.serving.grammar.demand import Demand
from node.serving.grammar.tokens import GrammarTokens
from node.serving.grammar.turns import Held, TurnGrammars
from node.serving.pieces import Vocabulary
from parsers import Parser, ToolSpec, get_format

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 31},
        "unit": {"enum": ["c", "f"]},
        "exact": {"type": "boolean"},
    },
    "required": ["city"],
    "additionalProperties": False,
}
SUM = {
    "type": "object",
    "properties": {
        "terms": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3}
    },
    "required": ["terms"],
    "additionalProperties": False,
}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
SCHEMAS = {"get": NOTHING, "get_weather": WEATHER, "mcp.sum-up": SUM}
TOOLS = tuple(Tool(name, json.dumps(schema)) for name, schema in SCHEMAS.items())
ANSWER = json.dumps({**WEATHER, "required": ["city", "days"]})


def demand(choice: str, tools: Sequence[Tool] = TOOLS, **fields: Any) -> Demand:
    """What a request demands; several calls may come unless told otherwise."""
    options: dict[str, Any] = {"several": True, "json": False, "schema": None, **fields}
    return Demand(choice, tuple(tools), **options)  # type: ignore[arg-type]


@dataclass
class Answer:
    """What a parser makes of some tokens."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def check_calls(self, names: Sequence[str] = tuple(SCHEMAS)) -> None:
        """Every call is to one of the tools, and its arguments fit."""
        assert not self.warnings, self
        for name, arguments in self.calls:
            assert name in names, self
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])


class Speaker:
    """One format with a vocabulary in which its markers are tokens, or one in which they are text."""

    def __init__(self, key: str, *, marked: bool = True) -> None:
        self.spec = get_format(key)
        self.tokenizer = tokenizer(marked)
        self.vocabulary = Vocabulary(self.tokenizer)
        self.tokens = tokens(marked)
        self.stops = frozenset(int(token) for token in self.tokenizer.eos_token_ids)
        self.end = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.single = frozenset(marker for marker in self.spec.markers if marker in self.tokens.markers)
        self.compiler = GrammarCompiler(self.tokens, self.stops)
        self.grammars = TurnGrammars(key, self.spec, self.vocabulary, self.compiler)

    def parser(self, suffix: str = "", tools: Sequence[Tool] = TOOLS, *, enabled: bool = True) -> Parser:
        declared = [ToolSpec(tool.name, tool.parameters_json or None) for tool in tools]
        return Parser(self.spec, declared, enabled, suffix, single_tokens=self.single)

    def hold(self, wanted: Demand, *, suffix: str = "", max_tokens: int = 1000, tools: Sequence[Tool] = TOOLS) -> Held:
        enabled = wanted.choice != "none"
        parser = self.parser(suffix, tools, enabled=enabled)
        return asyncio.run(self.grammars.hold(wanted, parser, suffix, max_tokens))

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def read(
        self,
        ids: Sequence[int],
        suffix: str = "",
        tools: Sequence[Tool] = TOOLS,
        *,
        cut: bool = False,
        enabled: bool = True,
    ) -> Answer:
        """As the generation reads it, with calls wanted whatever the choice was, unless told otherwise."""
        parser, decoder, answer = self.parser(suffix, tools, enabled=enabled), self.vocabulary.decoder(), Answer()
        events: list[ev.Event] = []
        for token in ids:
            if token in self.stops:
                text = self.vocabulary.text_of(token)
                events += parser.feed(text, token, single=True) if parser.reads(text) else []
                break
            piece = decoder.feed(token)
            if piece is not None:
                events += parser.feed(piece.text, piece.token_id, piece.single)
        events += parser.finish("length" if cut else "stop")
        for event in events:
            match event:
                case ev.Content():
                    answer.content += event.text
                case ev.Reasoning():
                    answer.reasoning += event.text
                case ev.CallStart():
                    answer.calls.append((event.name, ""))
                case ev.CallEnd():
                    answer.calls[event.index] = (answer.calls[event.index][0], event.arguments)
                    answer.warnings += [event.warning] if event.warning else []
        return answer

    def close(self) -> None:
        self.compiler.close()


def walk(
    speaker: Speaker,
    constraint: TurnConstraint,
    dice: random.Random,
    limit: int,
    free: Sequence[int] = (),
    *,
    noise: bool = False,
) -> list[int]:
    """Up to ``limit`` tokens, until one ends the turn.

    Where anything may come, it is the next of ``free``, and then the end; with ``noise`` anything. What the constraint
    refuses is drawn again, once, as the engine does.
    """
    script = list(free)
    ids: list[int] = []
    everything = range(speaker.tokens.size)
    while len(ids) < limit:
        mask = constraint.mask()
        may = everything if mask is None else sorted(bits(mask))
        assert may, "no token may come"
        ahead = constraint.runs_ahead()
        assert not (ahead and mask is not None)
        forced = constraint.forced()
        if forced:
            assert set(may) == {forced[0]}
        if script and script[0] in may:
            token = script.pop(0)
        elif mask is None and not noise:
            token = speaker.end
        else:
            token = dice.choice(may)
        if not constraint.accept(token):
            assert not ahead, "it ran ahead"
            script.clear()
            again = constraint.mask()
            assert again is not None
            token = dice.choice(sorted(bits(again)))
            assert constraint.accept(token), "a token that may come was refused"
        ids.append(token)
        if token in speaker.stops:
            break
    return ids


def replay(speaker: Speaker, constraint: TurnConstraint, ids: Sequence[int]) -> list[bytes | None]:
    """The mask before each of the tokens, which a constraint at its beginning takes."""
    masks = []
    for token in ids:
        masks.append(constraint.mask())
        assert constraint.accept(token)
    return masks


def bits(mask: bytes) -> set[int]:
    return {at * 8 + bit for at, byte in enumerate(mask) if byte for bit in range(8) if byte >> bit & 1}


@cache
def tokenizer(marked: bool) -> Any:
    return load_tokenizer(make_folder(Path(mkdtemp()), all_markers()) if marked else DEMO)


@cache
def tokens(marked: bool) -> GrammarTokens:
    return GrammarTokens(tokenizer(marked), Vocabulary(tokenizer(marked)))
