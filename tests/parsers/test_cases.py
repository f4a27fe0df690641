"""The shared corpus of real outputs, where it lies beside the checkout: whole, one character at a time, and cut."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from parsers import FORMATS
from parsers.__main__ import whole
from tests.parsers.reading import cut

CORPUS = Path(__file__).parents[3] / "shared" / "tool-cases" / "cases.jsonl"
SHARE = {"must": 0.97, "should": 0.95}

pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason=f"no corpus at {CORPUS}")


def fold(text: str) -> str:
    return " ".join(text.split())


def same(one: Any, other: Any) -> bool:
    """Equal as JSON values: numbers by value, true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def right(answer: dict[str, Any], expect: dict[str, Any]) -> bool:
    if any(fold(answer[part]) != fold(expect[part]) for part in ("content", "reasoning")):
        return False
    if len(answer["calls"]) != len(expect["calls"]):
        return False
    return all(
        call["name"] == wanted["name"] and matches(call["arguments"], wanted["arguments"])
        for call, wanted in zip(answer["calls"], expect["calls"], strict=True)
    )


def matches(arguments: str, wanted: Any) -> bool:
    if isinstance(wanted, dict) and "__raw__" in wanted:
        return fold(arguments) == fold(wanted["__raw__"])
    try:
        return same(json.loads(arguments), json.loads(wanted) if isinstance(wanted, str) else wanted)
    except ValueError:
        return False


def line_of(case: dict[str, Any]) -> dict[str, Any]:
    chosen = {key: case[key] for key in ("tools", "initial", "prompt_suffix", "tool_choice") if key in case}
    return {"format": case.get("variant") or case["format"], "family": case["format"], **chosen}


def cases() -> list[dict[str, Any]]:
    if not CORPUS.exists():
        return []
    found = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    return [case for case in found if line_of(case)["format"] in FORMATS or case["format"] in FORMATS]


def echoes_the_prompt(case: dict[str, Any]) -> bool:
    """Whether the case expects text of the thought that stands in the prompt alone, which nobody generated."""
    return str(case.get("prompt_suffix") or "").endswith("I'm") and case["expect"]["reasoning"].startswith("I'm")


@pytest.mark.parametrize("level", sorted(SHARE))
def test_the_corpus(level: str) -> None:
    chosen = [case for case in cases() if case["enforce"] == level and not echoes_the_prompt(case)]
    wrong = [
        case["name"] for case in chosen if not right(whole({**line_of(case), "text": case["text"]}), case["expect"])
    ]
    assert len(wrong) <= (1 - SHARE[level]) * len(chosen), wrong


def test_the_corpus_in_pieces() -> None:
    chance = random.Random(7)
    for case in cases():
        text, line = case["text"], line_of(case)
        answer = whole({**line, "text": text})
        for pieces in (list(text), cut(text, [chance.randrange(len(text) + 1) for _ in range(8)])):
            assert whole({**line, "chunks": pieces}) == answer, (case["name"], pieces)
