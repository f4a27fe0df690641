"""The matcher: what may come, what must, what could, and the way back."""

from __future__ import annotations

import random

import pytest
from demo_tokens import END, STOPS, allowed, compiled, compiler, encode, spell, tokens
from llguidance import LLParserLimits

from node.serving.grammar import compiler as module
from node.serving.grammar.compiler import GrammarCompiler
from node.serving.grammar.matcher import Matcher
from tandem.errors import TandemError

WEATHER = (
    '%json {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer",'
    ' "minimum": 1, "maximum": 9}}, "required": ["city"], "additionalProperties": false,'
    ' "x-guidance": {"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}}'
)


async def matcher(made: GrammarCompiler, text: str) -> Matcher:
    return made.matcher(await compiled(made, text))


async def test_a_random_walk_is_allowed_token_by_token_and_ends_where_it_may() -> None:
    with compiler() as made:
        for seed in range(30):
            dice = random.Random(seed)
            under = await matcher(made, f"start: {WEATHER}")
            ids: list[int] = []
            while not under.complete:
                may = allowed(under.mask())
                assert may and may.isdisjoint(range(tokens().size, tokens().size + 64))
                assert (may >= STOPS) == under.accepting
                token = dice.choice(sorted(may - STOPS))
                assert under.validate([token]) == 1
                assert under.consume(token)
                ids.append(token)
            assert allowed(under.mask()) == STOPS
            assert all(under.consume(stop) for stop in STOPS)
            assert not under.consume(ids[0])
            assert spell(ids).startswith('{"city": "') and spell(ids).endswith("}")


async def test_what_is_refused_changes_nothing() -> None:
    with compiler() as made:
        under = await matcher(made, f"start: {WEATHER}")
        ids = encode('{"city": "Oslo"}')
        for token in ids:
            before = under.mask()
            for other in (END, tokens().markers["<tool_call>"], tokens().size, tokens().size + 5, 1 << 40, -1):
                assert not under.consume(other)
            wrong = next(one for one in range(tokens().size) if one not in allowed(before))
            assert not under.consume(wrong) and under.validate([wrong]) == 0
            assert under.mask() == before
            assert under.consume(token)
        assert under.complete


async def test_forced_tokens_are_the_tokenizers_own() -> None:
    with compiler() as made:
        under = await matcher(made, f'start: "The weather: " {WEATHER}')
        forced = under.forced()
        assert spell(forced) == 'The weather: {"city": "'[: len(spell(forced))] and len(forced) > 3
        assert list(forced) == encode(spell(forced))
        assert under.forced() == forced
        assert under.consume_all(forced) == len(forced)
        under = await matcher(made, "start: /[a-z]+/")
        assert under.forced() == ()


async def test_drafts_are_checked_and_taken_back() -> None:
    with compiler() as made:
        under = await matcher(made, f"start: {WEATHER}")
        ids = encode('{"city": "Oslo", "days": 3}')
        assert under.validate(ids) == len(ids)
        assert under.validate([*ids, END]) == len(ids) + 1
        assert under.validate([*ids, END, END]) == len(ids) + 1
        assert under.validate([*ids[:3], END, *ids[3:]]) == 3
        assert under.validate([*ids, ids[0]]) == len(ids)
        assert under.validate([]) == 0
        assert under.validate([tokens().size + 9]) == 0
        masks = []
        for token in ids:
            masks.append(under.mask())
            assert under.consume(token)
        assert under.validate([END]) == 1
        for count in (1, 2, len(ids) - 3):
            under.rollback(count)
            ids = ids[:-count]
            assert under.mask() == masks[len(ids)]
        with pytest.raises(ValueError):
            under.rollback(1)


async def test_a_marker_is_written_by_its_id_alone() -> None:
    with compiler() as made:
        marker = tokens().markers["<tool_call>"]
        under = await matcher(made, f'start: <[{marker}]> "a" <[{END}]> "b"')
        assert under.forced()[0] == marker
        assert under.consume(marker)
        assert under.consume_all(encode("a")) == 1
        # A token that ends turns elsewhere is like any other in the midst of a grammar.
        assert allowed(under.mask()) == {END} and under.consume(END)
        assert under.consume_all(encode("b")) == 1 and under.complete
        spelled = await matcher(made, 'start: "<tool_call>"')
        assert not spelled.consume(marker)
        assert marker not in allowed(spelled.mask())
        assert spelled.consume_all(tokens().write(b"<tool_call>")) > 1 and spelled.complete


async def test_sequences_of_one_grammar_do_not_disturb_each_other() -> None:
    with compiler() as made:
        one, other = await matcher(made, f"start: {WEATHER}"), await matcher(made, f"start: {WEATHER}")
        assert one.consume_all(encode('{"city": "')) > 0
        assert other.consume_all(encode('{"city": "Rome"}')) > 0
        assert other.complete and not one.complete


async def test_an_automaton_that_has_grown_too_large_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = LLParserLimits(max_lexer_states=1000, verbose_errors=False)
    monkeypatch.setattr(module, "_LIMITS", limits)
    with compiler() as made:
        # Each way costs states of its own for every place in the text.
        ways = [f"TEXT{way}: /{way}[0-9]{{0,{600 + way}}}!/" for way in range(6)]
        text = "\n".join(["start: " + " | ".join(f"TEXT{way}" for way in range(6)), *ways])
        zero = encode("0")
        ages = []
        for way in range(6):
            under = await matcher(made, text)
            assert under.consume_all([*encode(str(way)), *zero * 500]) == 501
            assert set(zero) <= allowed(under.mask())
            under.rollback(499)
            assert under.consume_all([*zero * 10, *encode("!")]) == 11 and under.complete
            ages.append(under._age)
        assert ages == sorted(ages) and ages[-1] > 0
        hopeless = await matcher(made, "start: /[0-9]{0,5000}!/")
        with pytest.raises(TandemError, match="cannot be followed"):
            for _ in range(3000):
                assert set(zero) <= allowed(hopeless.mask()) and hopeless.consume_all(zero) == 1
