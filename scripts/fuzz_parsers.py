"""Feeds every tool-call parser intact, damaged and random text, and says what broke.

    scripts/fuzz_parsers.py [--inputs 100000] [--seed 1] [--formats hermes,glm47]

Words that occur nowhere else are sown into what is no markup. There are three kinds of inputs:

- stories: prose, thoughts and calls as a model should write them. Each call must come out as it was written, and the
  prose to the letter, line feeds next to markup apart.
- calls beside damage: between calls stands one that breaks off. The calls stay, the sown words come out.
- noise: parts of calls, markers and odds and ends. Each sown word comes out once, in its order, as text or in a call.

All are read whole, cut at random places, one character at a time, and with markers as tokens, with tools drawn at
random: no exception, and the same answer however the text was cut. From time to time the end of a text is repeated
until it is ten times as long, which must cost about ten times as much. Ends with 1 if anything broke.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from fuzz_texts import Drawn, Piece, Source, beside, noise, pieces_of, story

from parsers import FORMATS, Format, Parser
from parsers.events import ArgumentsDelta, CallEnd, CallStart, Content, Event, Finish, Reasoning

HEADER = re.compile(r'(?:<\|(?:start|channel)\|>|to=)[^\n]*?<\|message\|>|(?:tool|key)="[^"\n]*"[^\n]*?<\|sep\|>')
SOWN = re.compile(r"zq\d+x")
# How long a text is that is read again ten times as long, and by how much more than ten times it may cost.
SHORT, GROWTH = 2_000, 2.5


def read(spec: Format, drawn: Drawn, pieces: Sequence[Piece], **options: Any) -> list[Event]:
    """The events of the pieces."""
    parser = Parser(spec, drawn.tools, **drawn.options, **options)
    events: list[Event] = []
    for text, single in pieces:
        events += parser.feed(text, None, single)
    return events + parser.finish("length" if drawn.end == "length" else "stop")


@dataclass
class Answer:
    """What came out, with the deltas joined; `said` is all of it in its order."""

    content: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish: str = ""
    said: str = ""


def gathered(events: list[Event]) -> Answer:
    """The answer. AssertionError if the events do not fit together."""
    answer = Answer()
    running = False
    for event in events:
        assert not answer.finish, "an event after the end"
        match event:
            case Content(text):
                answer.content += text
                answer.said += text
            case Reasoning(text):
                answer.reasoning += text
                answer.said += text
            case CallStart(index, name, call_id):
                assert not running and index == len(answer.calls), "a call out of order"
                answer.calls.append([name, ""])
                answer.said += f" {call_id} {name} "
                running = True
            case ArgumentsDelta(index, text):
                assert running and text and index == len(answer.calls) - 1, "arguments of no call"
                answer.calls[-1][1] += text
                answer.said += text
            case CallEnd(index, arguments):
                assert running and arguments == answer.calls[index][1], "other arguments than were sent"
                running = False
            case Finish(reason):
                answer.finish = reason
            case _:
                raise AssertionError(f"an event of another kind: {event}")
    assert answer.finish and not running, "no end"
    return answer


def check(chance: random.Random, source: Source, drawn: Drawn) -> Answer:
    """AssertionError if the text is not read as promised."""
    spec, text = source.spec, drawn.text
    whole = gathered(read(spec, drawn, [(text, False)]))
    judge(spec, drawn, whole, as_tokens=False)
    marks = list(range(len(text) + 1))
    if chance.random() < 0.6:
        marks = sorted({0, len(text), *(chance.randrange(len(text) + 1) for _ in range(chance.randint(1, 10)))})
    cut = [(text[start:stop], False) for start, stop in pairwise(marks)]
    assert gathered(read(spec, drawn, cut)) == whole, "cuts change the answer"
    if not source.markers:
        return whole
    vocabulary = source.markers if chance.random() < 0.6 else [one for one in source.markers if chance.random() < 0.5]
    tokens = gathered(read(spec, drawn, pieces_of(text, vocabulary, len(text) + 1), single_tokens=vocabulary))
    judge(spec, drawn, tokens, as_tokens=vocabulary == source.markers)
    if chance.random() < 0.4:
        again = gathered(read(spec, drawn, pieces_of(text, vocabulary, 3), single_tokens=vocabulary))
        assert again == tokens, "cuts between tokens change the answer"
    return whole


def check_growth(chance: random.Random, source: Source, drawn: Drawn) -> None:
    """AssertionError if the end of the text, repeated ten times as often, costs far more than ten times as much."""
    at, size = chance.randrange(len(drawn.text)), chance.choice([1, 5])
    head, part = drawn.text[:at], drawn.text[at:]

    def cost(length: int, repeats: int) -> float:
        pieces = pieces_of(head + part * (length // len(part) + 1), (), size)
        best = float("inf")
        for _ in range(repeats):
            begin = time.process_time()
            read(source.spec, drawn, pieces)
            best = min(best, time.process_time() - begin)
        return best

    for repeats in (1, 3, 5):
        before, after = cost(SHORT, repeats), cost(10 * SHORT, repeats)
        if after < 10 * GROWTH * max(before, 0.001):
            return
    raise AssertionError(f"{after:.3f} s for ten times what takes {before:.3f} s, in pieces of {size} behind {at}")


def judge(spec: Format, drawn: Drawn, answer: Answer, as_tokens: bool) -> None:
    """AssertionError if the answer lacks what must be in it, or has what was not in the text."""
    sown, found = SOWN.findall(drawn.text), SOWN.findall(answer.said)
    # What stands in a message's header, or behind a tag's name, is markup, if it is one.
    header = set(SOWN.findall(" ".join(HEADER.findall(drawn.text))))
    sown = [word for word in sown if word not in header or word in found]
    if drawn.end == "length" and answer.calls and found == sown[: len(found)]:
        # The limit may have cut the call's markup, with what it says half.
        sown = found
    assert found == sown, f"sown words: {Counter(sown) - Counter(found)} lost, {Counter(found) - Counter(sown)} gained"
    for part in (answer.content, answer.reasoning):
        at = -1
        for char in part:
            at = drawn.text.find(char, at + 1)
            assert at >= 0, "text that was not there"
    if drawn.prose is not None:
        assert [name for name, _ in answer.calls] == [name for name, _ in drawn.calls or []], "other calls"
        for (_, arguments), (_, wanted) in zip(answer.calls, drawn.calls or [], strict=True):
            values = json.loads(arguments)
            assert not drawn.typed or values == json.loads(wanted), "other arguments"
        same = "".join(rf"\n{{0,3}}{re.escape(one.strip(chr(10)))}\n{{0,2}}" for one in drawn.prose)
        assert re.fullmatch(same, answer.content), f"the answer is not the prose: {answer.content!r} {drawn.prose}"
        assert answer.reasoning.strip("\n") == drawn.thought, "the thought is another"
    elif drawn.calls is not None and (as_tokens or not drawn.tokens_only):
        left = [name for name, _ in answer.calls]
        for name, _ in drawn.calls:
            assert name in left, f"a call is lost: {drawn.calls} {answer}"
            left = left[left.index(name) + 1 :]


def main() -> int:
    """Run; returns the exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--formats", default=",".join(FORMATS))
    given = options.parse_args()
    chance = random.Random(given.seed)
    sources = [Source(FORMATS[key]) for key in given.formats.split(",")]
    broken = calls = words = 0
    for number in range(given.inputs):
        source = sources[number % len(sources)]
        draw = chance.choices((story, beside, noise), (3, 2, 5))[0]
        if draw is beside and source.bare:
            draw = story
        drawn = draw(chance, source)
        try:
            answer = check(chance, source, drawn)
            calls, words = calls + len(answer.calls), words + len(SOWN.findall(answer.said))
            if number % 300 == 0 and drawn.text:
                check_growth(chance, source, drawn)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            broken += 1
            print(f"{source.spec.key} {drawn.kind}: {type(error).__name__}: {error}\n    {drawn!r}")
    print(
        f"{given.inputs} inputs over {len(sources)} formats, with {calls} calls and {words} sown words, {broken} broken"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
