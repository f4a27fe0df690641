"""Tokens to events: numbered, with every token id, whatever the pieces are."""

from __future__ import annotations

from typing import Any

import pytest
from running_paths import DEMO

from node.engine.head import Sample
from node.engine.sampling import TokenLogprobs
from node.engine.tokenizer import load_tokenizer
from node.serving.generation import Answer, Generation, call_id_for, check_context
from node.serving.pieces import Vocabulary
from parsers import Parser, ToolSpec, get_format
from tandem.errors import ContextOverflowError, OverloadedError
from tandem.v1 import generation_pb2 as pb

TOKENIZER: Any = load_tokenizer(DEMO)
VOCABULARY = Vocabulary(TOKENIZER)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
TOOLS = [ToolSpec("get_weather", '{"type": "object", "properties": {"city": {"type": "string"}}}')]


async def events(
    text: str,
    *,
    stops: tuple[str, ...] = (),
    single_call: bool = False,
    plain: bool = False,
    limit: int = 10_000,
    end: bool = True,
) -> list[pb.GenerationEvent]:
    """Everything that one answer gives."""
    parser = None if plain else Parser(get_format("hermes"), TOOLS)
    answer = Answer(stops, frozenset({END}), single_call=single_call)
    generation = Generation("0123456789abcdef01234567", VOCABULARY, parser, answer, 5)
    generation.accepted("pipe", [1, 2, 3, 4, 5])
    ids = TOKENIZER.encode(text, add_special_tokens=False) + ([END] if end else [])
    for count, token in enumerate(ids[:limit], start=1):
        last = token == END or count == limit or count == len(ids)
        logprobs = TokenLogprobs(-0.5, ((token, -0.5),))
        if not generation.on_sample(Sample(1, token, logprobs, last)):
            break
    found = [event async for ready in generation.events() for event in ready]
    assert [event.sequence for event in found] == list(range(len(found)))
    assert found[0].HasField("accepted") and found[0].accepted.prompt_tokens == 5
    assert all(len(event.logprobs) == len(event.token_ids) for event in found)
    assert sum(event.HasField("finished") for event in found) == 1 and found[-1].HasField("finished")
    assert found[-1].finished.completion_tokens == sum(len(event.token_ids) for event in found)
    return found


def content(found: list[pb.GenerationEvent]) -> str:
    return "".join(event.content for event in found)


async def test_text_comes_as_it_was_written() -> None:
    found = await events("Hello, wörld 👍!")
    assert content(found) == "Hello, wörld 👍!"
    assert found[-1].finished.reason == pb.FINISH_REASON_STOP
    ids = [token for event in found for token in event.token_ids]
    assert ids == [*TOKENIZER.encode("Hello, wörld 👍!", add_special_tokens=False), END]


async def test_a_call_is_started_streamed_and_ended() -> None:
    found = await events(f"Sure.\n{CALL}")
    assert content(found) == "Sure."
    (start,) = [event.tool_call_start for event in found if event.HasField("tool_call_start")]
    assert (start.index, start.name) == (0, "get_weather")
    assert start.tool_call_id == call_id_for("0123456789abcdef01234567", 0)
    deltas = [event.tool_call_arguments.arguments_delta for event in found if event.HasField("tool_call_arguments")]
    assert "".join(deltas) == '{"city": "Paris"}' and len(deltas) > 3
    (end,) = [event.tool_call_end for event in found if event.HasField("tool_call_end")]
    assert end.tool_call.arguments_json == '{"city": "Paris"}' and not end.warning
    assert found[-1].finished.reason == pb.FINISH_REASON_TOOL_CALLS


def feed(generation: Generation, ids: list[int]) -> None:
    """Samples the tokens; the first end token is the last one."""
    for token in ids:
        generation.on_sample(Sample(1, token, None, token == END))


async def drain(generation: Generation) -> list[pb.GenerationEvent]:
    """Everything that is ready, until the last event."""
    return [event async for ready in generation.events() for event in ready]


@pytest.mark.parametrize(
    "written", [f"Sure 👍.\n{CALL}\n{CALL}\nThere.", "<think>\nHm, 1 < 2.\n</think>\n\nYes.", CALL]
)
async def test_replaying_the_tokens_gives_the_same_numbered_events(written: str) -> None:
    """Another head that is fed the ids again goes on with the same numbers, whenever somebody looked at the events."""
    ids = [*TOKENIZER.encode(written, add_special_tokens=False), END]

    def begun(name: str = "0123456789abcdef01234567") -> Generation:
        answer = Answer((), frozenset({END}), single_call=False)
        generation = Generation(name, VOCABULARY, Parser(get_format("hermes"), TOOLS), answer, 5)
        generation.accepted("pipe", [1, 2, 3, 4, 5])
        return generation

    first = begun()
    feed(first, ids)
    wanted = await drain(first)
    assert [event.sequence for event in wanted] == list(range(len(wanted)))
    assert [token for event in wanted for token in event.token_ids] == ids
    for at in range(len(ids)):
        second = begun()
        feed(second, ids[:at])
        events = second.events()
        found = list(await anext(events))
        assert found == wanted[: len(found)]
        feed(second, ids[at:])
        found += [event async for ready in events for event in ready]
        assert found == wanted
    other = begun("fedcba9876543210fedcba98")
    feed(other, ids)
    for event, own in zip(await drain(other), wanted, strict=True):
        if event.HasField("tool_call_start"):
            index = event.tool_call_start.index
            assert event.tool_call_start.tool_call_id == call_id_for("fedcba9876543210fedcba98", index)
            assert own.tool_call_start.tool_call_id == call_id_for("0123456789abcdef01234567", index)
        elif not event.HasField("tool_call_end"):
            assert event == own


async def test_a_long_argument_streams_as_it_is_generated() -> None:
    words = " ".join(["quiet", "river", "morning", "garden"] * 8)
    found = await events(f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{words}"}}}}\n</tool_call>')
    tokens = len(TOKENIZER.encode(words, add_special_tokens=False))
    assert tokens >= 40
    deltas = [event for event in found if event.HasField("tool_call_arguments")]
    assert len(deltas) >= 0.9 * tokens
    begin = next(i for i, event in enumerate(found) if event.HasField("tool_call_start"))
    sampled_before = 0
    for event in found[begin:]:
        sampled_before += len(event.token_ids)
        if event.HasField("tool_call_arguments") and "quiet" in event.tool_call_arguments.arguments_delta:
            break
    assert sampled_before < 10


async def test_reasoning_is_told_apart_and_counted() -> None:
    found = await events("<think>\nhm, hm\n</think>\n\nYes.")
    assert "".join(event.reasoning for event in found) == "hm, hm"
    assert content(found) == "Yes."
    assert 0 < found[-1].finished.reasoning_tokens < found[-1].finished.completion_tokens


async def test_only_one_call_where_one_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    found = await events(f"{CALL}\n{CALL}", single_call=True)
    assert sum(event.HasField("tool_call_start") for event in found) == 1
    assert sum(event.HasField("tool_call_end") for event in found) == 1
    assert "the one to get_weather is dropped" in caplog.text
    assert sum(event.HasField("tool_call_start") for event in await events(f"{CALL}\n{CALL}")) == 2


async def test_a_stop_string_ends_the_text_across_tokens_and_never_a_call() -> None:
    found = await events("one two three", stops=("o th",))
    assert content(found) == "one tw"
    assert (found[-1].finished.reason, found[-1].finished.stop) == (pb.FINISH_REASON_STOP, "o th")
    found = await events(CALL, stops=("Paris", "city"))
    assert found[-1].finished.reason == pb.FINISH_REASON_TOOL_CALLS


async def test_text_held_for_a_stop_string_comes_before_a_call_and_at_the_end() -> None:
    assert content(await events("wait for Obs", stops=("Observation:",))) == "wait for Obs"
    found = await events(f"Obs{CALL}", stops=("Observation:",))
    kinds = [event.WhichOneof("event") for event in found]
    assert content(found) == "Obs" and kinds.index("content") < kinds.index("tool_call_start")


async def test_the_limit_in_the_middle_of_a_call() -> None:
    ids = TOKENIZER.encode(f"Sure. {CALL}", add_special_tokens=False)
    arguments = '{"city": "Paris"}'
    before = f"Sure. {CALL}".partition(arguments)[0]
    named = 0
    for limit in range(1, len(ids)):
        found = await events(f"Sure. {CALL}", limit=limit, end=False)
        text = "".join(map(VOCABULARY.text_of, ids[:limit]))
        assert found[-1].finished.reason == pb.FINISH_REASON_LENGTH
        starts = [event.tool_call_start.name for event in found if event.HasField("tool_call_start")]
        deltas = [event.tool_call_arguments.arguments_delta for event in found if event.HasField("tool_call_arguments")]
        assert starts == ["get_weather"] * ('"get_weather"' in text)
        assert content(found) == ("Sure. " if starts else text)
        assert "".join(deltas) == arguments[: max(0, len(text) - len(before))]
        named += bool(starts)
    assert named > 5


async def test_markup_is_text_in_plain_completions() -> None:
    assert content(await events(CALL, plain=True)) == CALL


async def test_a_failure_ends_it_in_band_and_nothing_follows() -> None:
    answer = Answer((), frozenset({END}), single_call=False)
    generation = Generation("g", VOCABULARY, None, answer, 5)
    generation.on_failure(OverloadedError("full", retry_after=7))
    generation.on_failure(OverloadedError("again"))
    generation.on_prefill(3)
    assert not generation.on_sample(Sample(1, 50, None, True))
    (event,) = [event async for ready in generation.events() for event in ready]
    assert (event.failed.code, event.failed.retry_after_seconds) == ("rate_limit_exceeded", 7)


async def test_somebody_else_cancels() -> None:
    generation = Generation("g", VOCABULARY, None, Answer((), frozenset(), single_call=False), 5)
    generation.cancelled()
    (event,) = [event async for ready in generation.events() for event in ready]
    assert event.finished.reason == pb.FINISH_REASON_CANCELLED


def test_call_ids_are_long_and_their_own() -> None:
    ids = {call_id_for(f"{head}-4f3c2b1a", index) for head in ("aaaaaaaaaaaa", "bbbbbbbbbbbb") for index in range(3)}
    assert len(ids) == 6 and all(len(each) >= 17 for each in ids)


@pytest.mark.parametrize(
    ("own_ids", "taken", "kept"),
    [(False, (), []), (True, (), [0]), (True, ("again",), []), (True, ("other",), [0])],
)
def test_an_identifier_that_the_text_carries_is_one_call_s_in_a_conversation(
    own_ids: bool, taken: tuple[str, ...], kept: list[int]
) -> None:
    """Two calls are both written as `again`; clients run only one of two that are called the same."""
    answer = Answer((), frozenset({END}), single_call=False, own_ids=own_ids, taken=frozenset(taken))
    generation = Generation("0123456789abcdef", VOCABULARY, Parser(get_format("hermes"), TOOLS), answer, 5)
    call = CALL.replace('{"name"', '{"id": "again", "name"')
    for token in TOKENIZER.encode(f"{call}\n{call}", add_special_tokens=False):
        generation.on_sample(Sample(1, token, None, False))
    starts = [event.tool_call_start for event in generation._ready if event.HasField("tool_call_start")]
    expected = ["again" if index in kept else call_id_for("0123456789abcdef", index) for index in range(2)]
    assert [start.tool_call_id for start in starts] == expected


def test_the_context_is_checked_with_both_figures() -> None:
    assert check_context(10, None, 100) == 90
    assert check_context(10, 90, 100) == 90
    for prompt, asked in ((100, None), (10, 91), (200, 5)):
        with pytest.raises(ContextOverflowError) as refused:
            check_context(prompt, asked, 100)
        assert str(prompt) in refused.value.message and "100" in refused.value.message
