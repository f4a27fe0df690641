"""Requests to score a model with: made from what training never sees, or written by hand; and the proof."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import phrasings
from .catalogue import CATALOGUE_NAMES
from .dialogues import KINDS, Message, document, kind_of
from .split import HANDWRITTEN, Source, held_out

SHORT = {KINDS[0]: "one", KINDS[1]: "several", KINDS[2]: "result", KINDS[3]: "none", KINDS[4]: "none"}
DRAWN = ("easy", "plain", "short", "normal")  # sizes of documents that the proof draws
SPLITS = ("ASK", "ACT", "BARE", "PLAIN", "EXPLICIT", "LEADS", "JOINTS")


@dataclass
class Case:
    """One request. `kind`: `one`, `several`, `result` (answer from results) or `none` (no call).

    `calls` are wanted; `uses` are texts of which the answer must hold each (alternatives parted by `|`).
    """

    id: str
    kind: str
    tools: list[dict[str, Any]]
    messages: list[Message]
    calls: list[dict[str, Any]]
    uses: list[str]


def handwritten(path: Path = HANDWRITTEN) -> list[Case]:
    """The requests of the hand-written file."""
    return [Case(**json.loads(line)) for line in path.read_text().splitlines()]


def generated(counts: dict[str, int], seed: int = 77) -> list[Case]:
    """Held-out cases, so many of each kind: first turns of conversations, or second ones where those use a result."""
    r = Source(seed, held=True)
    left = dict(counts)
    out: list[Case] = []
    while any(left.values()):
        doc = document(r)
        turns = doc.branches[0]
        for index in (1, 3):
            if len(turns) <= index or turns[index]["role"] != "assistant":
                continue
            kind = SHORT[kind_of(turns, index)]
            if (
                (index == 3) != (kind == "result")
                or left.get(kind, 0) == 0
                or (kind_of(turns, index) == KINDS[4] and r.maybe(0.5))
            ):
                continue
            left[kind] -= 1
            system = [{"role": "system", "content": doc.system}] if doc.system else []
            calls = [c["function"] for c in turns[index].get("tool_calls") or []]
            uses = (
                list(dict.fromkeys(v for t in turns[:index] if t["role"] == "tool" for v in used(t["content"])))
                if kind == "result"
                else []
            )
            out.append(
                Case(
                    f"made-{len(out) + 1:03}",
                    kind,
                    [s["function"] for s in doc.schemas],
                    system + _wire(turns[:index]),
                    calls,
                    uses,
                )
            )
    return out


def _wire(turns: list[Message]) -> list[Message]:
    """Messages as a client sends them: ids, and arguments as JSON text."""
    out: list[Message] = []
    ids: Iterator[str] = iter(())
    for turn in turns:
        if turn.get("tool_calls"):
            calls = [
                {
                    "id": f"call_{len(out)}_{i}",
                    "type": "function",
                    "function": {
                        "name": c["function"]["name"],
                        "arguments": json.dumps(c["function"]["arguments"], ensure_ascii=False),
                    },
                }
                for i, c in enumerate(turn["tool_calls"])
            ]
            ids = iter([str(c["id"]) for c in calls])
            out.append({**turn, "tool_calls": calls})
        elif turn["role"] == "tool":
            out.append({"role": "tool", "tool_call_id": next(ids), "content": turn["content"]})
        else:
            out.append(turn)
    return out


def used(content: str) -> list[str]:
    """What an answer must hold of a result: numbers, texts, yes or no for true and false; nothing of mere success."""
    try:
        value = json.loads(content)
    except ValueError:
        value = content
    return list(_leaves(value))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if item is True or item in ("ok", "success", "done"):
                continue
            yield from (
                _leaves(item)
                if not isinstance(item, bool)
                else (f"{str(item).lower()}|{'yes' if item else 'no'}",)
                if key
                else ()
            )
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        text = value.split("| ", 1)[1].split("\n")[0] if value.startswith("<file>") else value.split("\n")[0]
        if text:
            yield text.rstrip(".!?")
    elif value is not None:
        yield str(value)


def given(case: Case) -> set[str]:
    """Strings and numbers that a right answer takes from the request; choices and booleans belong to the schema."""
    choices = {
        str(c).casefold() for t in case.tools for p in t["parameters"]["properties"].values() for c in p.get("enum", ())
    }
    out: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                collect(item)
        elif not isinstance(value, bool) and str(value).casefold() not in choices:
            out.add(str(value))

    for call in case.calls:
        for value in call["arguments"].values():
            collect(value)
    return out


def skeleton(text: str, values: set[str]) -> str:
    """A request without its values, lower case: how it is phrased."""
    for value in sorted(values, key=len, reverse=True):
        text = re.sub(re.escape(value), "…", text, flags=re.IGNORECASE)
    return text.casefold().strip(" .?!")


def problems(cases: list[Case], sample: int, seed: int = 4_000_000) -> list[str]:
    """Why the cases are not disjoint from training; empty when they are.

    By rule: no tool has a name of the catalogue or of training's side, no value is of training's side, no phrasing is
    in both lists. By sample: no tool's name, value or phrasing turns up in `sample` documents as training draws them.
    """
    out: list[str] = []
    names = {t["name"].casefold() for c in cases for t in c.tools}
    values = {v.casefold() for c in cases for v in given(c)}
    phrased = {
        skeleton(str(c.messages[-1]["content"]), given(c))
        for c in cases
        if c.messages[-1]["role"] == "user" and c.calls
    }
    familiar = {n.casefold() for n in CATALOGUE_NAMES}
    out += [f"tool of training: {n}" for n in sorted(names) if n in familiar or not held_out(n)]
    out += [f"value of training's side: {v!r}" for v in sorted(values) if not held_out(v)]
    for name in SPLITS:
        split = getattr(phrasings, name)
        out += [f"phrasing on both sides: {p!r}" for p in split.train if p in split.held]
    drawn_names, drawn_values, drawn_phrased = set[str](), set[str](), set[str]()
    r = Source(seed)
    for _ in range(sample):
        doc = document(r, r.choice(DRAWN))
        drawn_names.update(s["function"]["name"].casefold() for s in doc.schemas)
        for turns in doc.branches:
            for index in range(1, len(turns)):
                if turns[index].get("tool_calls"):
                    case = Case(
                        "",
                        "one",
                        [s["function"] for s in doc.schemas],
                        [],
                        [c["function"] for c in turns[index]["tool_calls"]],
                        [],
                    )
                    drawn_values.update(v.casefold() for v in given(case))
                    drawn_phrased.add(skeleton(turns[index - 1]["content"], given(case)))
    out += [f"tool drawn in training: {n}" for n in sorted(names & drawn_names)]
    out += [f"value drawn in training: {v!r}" for v in sorted(values & drawn_values)]
    out += [f"phrasing drawn in training: {p!r}" for p in sorted(phrased & drawn_phrased) if len(p) > 3]
    return out
