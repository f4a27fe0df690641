"""Random walks through grammars: every token is drawn from those that llguidance allows."""

from __future__ import annotations

import codecs
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from demo_tokens import TOKENIZER, VOCABULARY
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

import parsers.events as ev
from node.serving.grammar.calls import Grammar, GrammarWriter
from node.serving.grammar.compiler import refusal
from parsers import FORMATS, Format, Parser, ToolSpec
from parsers.format import Wire

# The demo model's tokens without its own markers: all single bytes, and common pieces of words and JSON.
WORDS = tuple(
    data
    for token in range(len(TOKENIZER))
    if token not in TOKENIZER.added_tokens_decoder and (data := VOCABULARY.bytes_of(token))
)
_MARKER = re.compile(r"<[^<>\s=\"']+>|\]<\]minimax\[>\[|\[/?[A-Z_]+\]|<\|\"\|>|｜DSML｜")
END = "<|the end|>"


def markers_of(spec: Format) -> tuple[str, ...]:
    """What may be a token of its own in a vocabulary made for the format."""
    found: list[str] = []
    for wire in (spec.wire, *spec.wire.also):
        texts = (wire.opening, wire.head, wire.middle, *wire.parameter, wire.tail, wire.separator, wire.closing)
        for text in (*texts, *wire.lead, *wire.answer, wire.quote, *spec.ends, *spec.dropped, *spec.openers):
            found += _MARKER.findall(text)
    for thought in spec.thoughts:
        found += _MARKER.findall(thought.open) + _MARKER.findall(thought.close)
    return tuple(dict.fromkeys(found))


class Vocabulary:
    """The small vocabulary with markers as tokens, and an end-of-turn token."""

    def __init__(self, markers: Sequence[str] = ()) -> None:
        self.tokens = [*WORDS, *(marker.encode() for marker in markers), END.encode()]
        self.markers = {marker: len(WORDS) + index for index, marker in enumerate(markers)}
        self.end = len(self.tokens) - 1
        self.bos_token_id = None
        self.eos_token_id = self.end
        self.special_token_ids = [*self.markers.values(), self.end]
        self._ids = {data: index for index, data in enumerate(WORDS)}
        self._longest = max(map(len, WORDS))
        self.engine = LLTokenizer(TokenizerWrapper(self), n_vocab=len(self.tokens), eos_token=self.end)

    def __call__(self, text: str | bytes) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        ids, at = [], 0
        while at < len(data):
            size = next(n for n in range(min(self._longest, len(data) - at), 0, -1) if data[at : at + n] in self._ids)
            ids.append(self._ids[data[at : at + size]])
            at += size
        return ids

    def spell(self, text: str) -> list[int]:
        """Tokens of a text, markers as tokens."""
        parts = re.split("(" + "|".join(map(re.escape, sorted(self.markers, key=len, reverse=True))) + ")", text)
        if not self.markers:
            return self(text)
        return [one for part in parts for one in ([self.markers[part]] if part in self.markers else self(part))]

    def validate(self, text: str) -> str:
        return refusal(text, self.engine)

    def writer(self, spec: Format, validate: Callable[[str], str] | None = None) -> GrammarWriter:
        return GrammarWriter(spec, self.markers, validate or self.validate)

    def matcher(self, grammar: Grammar | str) -> LLMatcher:
        matcher = LLMatcher(self.engine, grammar if isinstance(grammar, str) else grammar.text, log_level=0)
        assert not matcher.get_error(), matcher.get_error()
        return matcher


@cache
def vocabulary_for(key: str, marked: bool = True) -> Vocabulary:
    """One in which the format's markers are tokens, or one in which they are text."""
    return Vocabulary(markers_of(FORMATS[key]) if marked else ())


class Endless(Exception):
    """A walk that did not come to its end."""


def walk(
    vocabulary: Vocabulary, matcher: LLMatcher, dice: random.Random, closers: Sequence[str] = (), limit: int = 2500
) -> list[int]:
    """Tokens up to the end of the grammar. From some length on texts are closed and nothing is opened, if it can be."""
    ids: list[int] = []
    patience = dice.choice((3, 20, 60))
    ends = [vocabulary.spell(text) for text in closers]
    while not matcher.is_stopped():
        if len(ids) > limit:
            raise Endless(decode(vocabulary, ids)[-3000:])
        if len(ids) > patience:
            fitting = [end for end in ends if matcher.validate_tokens(end) == len(end)]
            if matcher.is_accepting():
                break
            if fitting and dice.random() < 0.8:
                hurry = dice.choice(fitting)
                assert matcher.try_consume_tokens(hurry) == len(hurry), matcher.get_error()
                ids += hurry
                continue
        mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
        assert len(allowed), (matcher.get_error(), decode(vocabulary, ids))
        token = int(allowed[dice.randrange(len(allowed))])
        if token == vocabulary.end:
            break
        assert matcher.consume_token(token), (matcher.get_error(), decode(vocabulary, ids))
        ids.append(token)
    return ids


def decode(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    return b"".join(vocabulary.tokens[token] for token in ids).decode("utf-8", "replace")


@dataclass
class Answer:
    """What a parser makes of some tokens."""

    content: str
    reasoning: str
    calls: list[tuple[str, str]]
    warnings: list[str]


def read(spec: Format, vocabulary: Vocabulary, ids: Sequence[int], tools: Sequence[ToolSpec], **options: Any) -> Answer:
    """The tokens as a generation's parser reads them."""
    single = [marker for marker in spec.markers if marker in vocabulary.markers]
    parser = Parser(spec, tools, single_tokens=single, **options)
    utf8 = codecs.getincrementaldecoder("utf-8")("strict")
    events: list[ev.Event] = []
    for token in ids:
        text, whole = utf8.decode(vocabulary.tokens[token]), not utf8.getstate()[0]
        if text:
            events += parser.feed(text, token, whole and token >= len(WORDS))
    events += parser.finish("stop")
    answer = Answer("", "", [], [])
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
            case ev.Warning():
                answer.warnings.append(event.text)
    return answer


def closers_of(wire: Wire) -> tuple[str, ...]:
    """Texts that end values, containers and calls, those first that end most."""
    ends = (wire.tail + wire.closing, wire.closing, wire.tail, wire.parameter[2], wire.quote, '"', "}", "]", ")")
    return tuple(dict.fromkeys(end for end in ends if end))
