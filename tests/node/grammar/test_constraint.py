"""What a turn may say: in every format that random tokens can be read back from, and token by token."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import jsonschema
import pytest
from turn_walks import ANSWER, SCHEMAS, TOOLS, Speaker, bits, demand, replay, walk

from node.serving.grammar.calls import GrammarWriter
from node.serving.grammar.constraint import TurnConstraint
from parsers import FORMATS
from parsers.writing import write_calls
from tandem.errors import InvalidRequestError

KEYS = sorted(FORMATS)
SPELLED = ("hermes", "qwen3_coder", "llama3_json", "mistral", "deepseek_v32", "functionary_v31", "gpt_oss", "glm45")
"""Formats that are tried with their markers as text in the short tests, too."""
SEEDS = range(3)
PLAIN = ("hermes", "llama3_json")
"""Formats for what does not depend on the format."""


@pytest.fixture
def speaker(request: pytest.FixtureRequest) -> Iterator[Speaker]:
    key, marked = request.param
    made = Speaker(key, marked=marked)
    yield made
    made.close()


def speakers(*keys: str) -> pytest.MarkDecorator:
    """Each format with its markers as tokens, and as text."""
    marked = [pytest.param((key, True), id=f"{key}-tokens") for key in keys]
    spelled = [
        pytest.param((key, False), id=f"{key}-text", marks=() if key in SPELLED else pytest.mark.slow) for key in keys
    ]
    return pytest.mark.parametrize("speaker", [*marked, *spelled], indirect=True)


def complete(speaker: Speaker, constraint: TurnConstraint, seed: int, limit: int = 3000) -> list[int]:
    """A turn at random that ends by itself."""
    ids = walk(speaker, constraint, random.Random(seed), limit)
    assert ids[-1] in speaker.stops, "the turn did not end"
    return ids


@speakers(*KEYS)
def test_required_gives_calls_that_fit_and_nothing_else(speaker: Speaker) -> None:
    for seed in SEEDS:
        held = speaker.hold(demand("required"), max_tokens=400)
        assert not held.warnings
        answer = speaker.read(complete(speaker, held.constraint, seed))
        answer.check_calls()
        assert answer.calls and not answer.content.strip()


@speakers(*KEYS)
def test_one_call_where_one_is_wanted(speaker: Speaker) -> None:
    for seed in SEEDS:
        held = speaker.hold(demand("required", TOOLS[seed % 3 : seed % 3 + 1], several=False), max_tokens=400)
        answer = speaker.read(complete(speaker, held.constraint, seed))
        answer.check_calls([TOOLS[seed % 3].name])
        assert len(answer.calls) == 1 and not answer.content.strip()


@speakers(*KEYS)
def test_a_call_once_begun_is_to_a_tool_and_fits(speaker: Speaker) -> None:
    """In auto: the opening comes in any tokens, and breaks off anywhere before the arguments' end."""
    whole = write_calls(speaker.spec, [("get_weather", '{"city": "Paris", "days": 3}')])
    begun = 0
    for seed in range(9):
        dice = random.Random(seed)
        prose = "" if speaker.spec.bare else dice.choice(["", "Sure.", "Let me see.\n\n"])
        script = speaker.encode(prose + whole[: dice.randrange(len(whole) // 3, len(whole))])
        held = speaker.hold(demand("auto", several=bool(seed % 2)), max_tokens=400)
        ids = walk(speaker, held.constraint, dice, 3000, script)
        answer = speaker.read(ids)
        answer.check_calls()
        begun += bool(answer.calls)
        if seed % 2 == 0:
            assert len(answer.calls) <= 1
    assert begun >= 6


@speakers(*KEYS)
def test_a_name_that_is_none_cannot_be_finished(speaker: Speaker) -> None:
    whole = write_calls(speaker.spec, [("get_wether", '{"city": "Paris"}')])
    for seed in range(3):
        held = speaker.hold(demand("auto"), max_tokens=400)
        answer = speaker.read(walk(speaker, held.constraint, random.Random(seed), 3000, speaker.encode(whole)))
        if not speaker.spec.wire.trigger:
            continue  # the name alone makes the call, and this one makes none
        answer.check_calls()
        assert answer.calls


@speakers(*KEYS)
def test_none_gives_no_call_whatever_is_tried(speaker: Speaker) -> None:
    """The markers that open calls do not come, and what else might be read as a call is text to whoever asked."""
    spec = speaker.spec
    whole = write_calls(spec, [("get_weather", '{"city": "Paris"}')])
    masked = set(GrammarWriter(spec, speaker.tokens.markers, lambda text: "").openers)
    # Without a marker, or in a fence, a call is only known by what it says.
    unmarked = spec.bare or any(opener.startswith("```") for opener in spec.openers)
    for seed in SEEDS:
        dice = random.Random(seed)
        held = speaker.hold(demand("none", ()), max_tokens=400)
        openings = [token for _ in range(3) for token in speaker.encode(whole)]
        ids = walk(speaker, held.constraint, dice, 300, openings, noise=True)
        assert not masked & set(ids)
        answer = speaker.read(ids, cut=True, enabled=False)
        assert not answer.calls and (answer.content or answer.reasoning)
        assert unmarked or not speaker.read(ids, cut=True).calls


@pytest.mark.parametrize("key", [key for key in KEYS if FORMATS[key].bare])
def test_none_gives_no_call_where_the_whole_answer_would_be_one(key: str) -> None:
    speaker = Speaker(key)
    try:
        script = speaker.encode(write_calls(speaker.spec, [("get_weather", '{"city": "Paris"}')]))
        held = speaker.hold(demand("none", ()), max_tokens=400)
        ids = walk(speaker, held.constraint, random.Random(1), len(script), script)
        answer = speaker.read(ids, cut=True, enabled=False)
        assert not answer.calls and answer.content.strip()
    finally:
        speaker.close()


@speakers(*KEYS)
def test_json_of_a_schema_alone_and_beside_tools(speaker: Speaker) -> None:
    ways = set()
    for seed in range(5):
        tools = TOOLS if seed % 2 else ()
        held = speaker.hold(demand("auto", tools, json=True, schema=ANSWER), max_tokens=400)
        answer = speaker.read(complete(speaker, held.constraint, seed), tools=tools)
        if answer.calls:
            answer.check_calls()
            assert not answer.content.strip() and tools
        else:
            jsonschema.validate(json.loads(answer.content), json.loads(ANSWER))
        ways.add((bool(tools), bool(answer.calls)))
    assert (False, False) in ways


@speakers(*(key for key in KEYS if FORMATS[key].thoughts))
def test_a_thought_is_closed_in_time_for_the_call(speaker: Speaker) -> None:
    thought = speaker.spec.thoughts[0]
    for seed in SEEDS:
        wanted = demand("required", several=False) if seed % 2 else demand("auto", (), json=True, schema=ANSWER)
        max_tokens = (300, 60, 600)[seed]
        held = speaker.hold(wanted, suffix=thought.open, max_tokens=max_tokens)
        ids = walk(speaker, held.constraint, random.Random(seed), max_tokens * 20, noise=True)
        assert ids[-1] in speaker.stops
        answer = speaker.read(ids, suffix=thought.open)
        if seed % 2:
            answer.check_calls()
            assert len(answer.calls) == 1 and not answer.content.strip()
        else:
            jsonschema.validate(json.loads(answer.content), json.loads(ANSWER))
        assert answer.reasoning or max_tokens < 100


@speakers(*KEYS)
def test_the_state_is_a_function_of_the_tokens(speaker: Speaker) -> None:
    """Whatever was refused on the way: fed the same tokens, another constraint allows the same."""
    opening = speaker.encode(write_calls(speaker.spec, [("get_wether", '{"city": "Paris"}')]))
    suffix = speaker.spec.thoughts[0].open if speaker.spec.thoughts else ""
    turns = [
        (demand("auto"), "", opening),
        (demand("required"), "", []),
        (demand("required"), suffix, []),
        (demand("none", ()), "", opening),
        (demand("auto", json=True, schema=ANSWER), "", []),
    ]
    for seed, (wanted, prompt, script) in enumerate(turns):
        masks: list[bytes | None] = []
        held = speaker.hold(wanted, suffix=prompt, max_tokens=400)
        again = speaker.hold(wanted, suffix=prompt, max_tokens=400)
        ids = walk(speaker, held.constraint, random.Random(seed), 250, script, noise=bool(prompt))
        masks = replay(speaker, again.constraint, ids)
        for at in {0, len(ids) // 2, len(ids) - 1}:
            third = speaker.hold(wanted, suffix=prompt, max_tokens=400).constraint
            replay(speaker, third, ids[:at])
            assert third.mask() == masks[at]
        assert again.constraint.mask() == held.constraint.mask()
        assert again.constraint.forced() == held.constraint.forced()


@speakers(*PLAIN)
def test_free_text_runs_ahead_and_a_call_does_not(speaker: Speaker) -> None:
    held = speaker.hold(demand("auto"))
    constraint = held.constraint
    for token in speaker.encode("Hello there, this is plain"):
        assert constraint.mask() is None
        assert constraint.accept(token)
    assert constraint.runs_ahead()
    if "<tool_call>" in speaker.single:
        assert constraint.accept(speaker.tokens.markers["<tool_call>"])
        assert not constraint.runs_ahead() and constraint.mask() is not None
        assert constraint.forced()
    assert not speaker.hold(demand("required")).constraint.runs_ahead()


@speakers(*PLAIN)
def test_any_end_token_ends_a_turn_that_may_end_and_no_other(speaker: Speaker) -> None:
    for stop in speaker.stops:
        held = speaker.hold(demand("required", TOOLS[:1], several=False))
        constraint = held.constraint
        while (mask := constraint.mask()) is not None and not bits(mask) & speaker.stops:
            assert not constraint.accept(stop)
            token = min(bits(mask))
            assert constraint.accept(token)
        assert mask is not None and bits(mask) >= speaker.stops
        assert constraint.accept(stop)
        assert constraint.mask() is None and constraint.accept(token)


@pytest.mark.parametrize("speaker", [("hermes", True)], indirect=True)
def test_a_thought_may_be_opened_and_is_not_ended_by_an_end_token(speaker: Speaker) -> None:
    opens, closes = speaker.tokens.markers["<think>"], speaker.tokens.markers["</think>"]
    constraint = speaker.hold(demand("required", several=False), max_tokens=400).constraint
    first = constraint.mask()
    assert first is not None and opens in bits(first)
    assert constraint.accept(opens)
    banned = {*speaker.stops, speaker.tokens.markers["<tool_call>"]}
    for token in speaker.encode("Hm, let me think."):
        mask = constraint.mask()
        assert mask is not None and not bits(mask) & banned
        assert not any(constraint.accept(one) for one in banned)
        assert constraint.accept(token)
    assert constraint.accept(closes)
    ids = walk(speaker, constraint, random.Random(1), 300)
    answer = speaker.read([opens, *speaker.encode("Hm, let me think."), closes, *ids])
    assert answer.reasoning == "Hm, let me think." and len(answer.calls) == 1


def test_the_least_that_is_left_for_a_call_behind_a_thought() -> None:
    speaker = Speaker("hermes")
    try:
        for max_tokens in (40, 64, 100, 400, 1000):
            constraint = speaker.hold(demand("required"), suffix="<think>\n", max_tokens=max_tokens).constraint
            word = speaker.encode("word")
            taken = 0
            while not constraint.forced():
                assert constraint.accept(word[0])
                taken += 1
            closing = constraint.forced()
            assert speaker.vocabulary.text_of(closing[-1]) == "</think>"
            left = max_tokens - taken - len(closing)
            reserve = max(64, max_tokens // 4)
            assert left == reserve or (taken == 0 and left < reserve)
    finally:
        speaker.close()


def test_a_demand_that_nothing_fits_is_refused() -> None:
    speaker = Speaker("hermes")
    try:
        with pytest.raises(InvalidRequestError) as refused:
            impossible = '{"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]}'
            speaker.hold(demand("auto", (), json=True, schema=impossible))
        assert refused.value.param == "response_format"
    finally:
        speaker.close()


def test_schemas_are_what_the_walks_believe() -> None:
    assert [tool.name for tool in TOOLS] == list(SCHEMAS)
