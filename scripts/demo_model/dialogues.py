"""Documents: tools and a system prompt, and several conversations that branch off from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import words as w
from .phrasings import ENDS, JOINTS, QUESTION_ENDS
from .results import answer_to, make_result, written
from .split import Source
from .talk import CHAT, ECHO, NONE, QUESTIONS, SMALLTALK_HELD, SYSTEM
from .toolbox import familiar, unfamiliar
from .tools import Tool, led, pick
from .values import identifier, invented, path, phrase, plain_word, sentence

Message = dict[str, Any]
Calls = list[tuple[Tool, dict[str, Any]]]

# how many tools a document may have, and how many conversations; `easy` ones teach which tool and which parameter is
# meant, `plain` ones have the best-known tools only, `long` ones have up to some thousand tokens of prompt
SIZES: dict[str, tuple[tuple[int, ...], int]] = {
    "easy": ((1, 2, 2, 3, 3), 5),
    "plain": ((1, 2, 2, 2, 3), 5),
    "short": ((1, 2, 2, 3, 3), 5),
    "normal": ((1, 2, 2, 3, 3, 4, 4, 5, 6), 6),
    "long": (tuple(range(7, 25)), 10),
}
KINDS = ("one call", "several calls", "from a result", "no tool fits", "talk")


@dataclass
class Document:
    """Tools as a client sends them, a system prompt, and conversations that each follow it directly."""

    style: str
    schemas: list[dict[str, Any]]
    system: str | None
    branches: list[list[Message]]


def call_message(calls: list[tuple[str, dict[str, Any]]]) -> Message:
    """An assistant's turn that calls tools, in OpenAI's shape but with arguments as an object."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls],
    }


def kind_of(messages: list[Message], index: int) -> str:
    """Which of `KINDS` an assistant's turn is."""
    calls = messages[index].get("tool_calls") or []
    if calls:
        return KINDS[0] if len(calls) == 1 else KINDS[1]
    if messages[index - 1]["role"] == "tool":
        return KINDS[2]
    return KINDS[3] if messages[index]["content"] == NONE else KINDS[4]


def make_tools(r: Source, count: int, most: int = 9, plain: bool = False) -> list[Tool]:
    """Different tools, of `most` parameters at most; on the held-out side unfamiliar ones only."""
    out: dict[str, Tool] = {}
    while len(out) < count:
        tool = unfamiliar(r) if r.held or (not plain and r.maybe(0.6)) else familiar(r, plain)
        if len(tool.parameters) <= most:
            out.setdefault(tool.name, tool)
    tools = list(out.values())[:count]
    r.shuffle(tools)
    return tools


def system_prompt(r: Source, long: bool = False) -> str | None:
    """None mostly, or one to many sentences as agents have them."""
    x = r.random()
    if not long and x < 0.62:
        return None
    if not long and x < 0.82:
        return r.choice(SYSTEM)
    parts = [
        r.choice(SYSTEM) if r.maybe(0.7) else r.choice(w.sentences()).capitalize() + "."
        for _ in range(r.randint(8, 40) if long else r.randint(2, 7))
    ]
    if r.maybe(0.3):
        day = f"{r.choice(w.DAYS[:7])[:3]} {r.choice(w.MONTHS)[:3]} {r.randint(1, 28)} {r.randint(2020, 2030)}"
        folder, git, platform = plain_word(r), r.choice(("yes", "no")), r.choice(("darwin", "linux"))
        parts.append(
            f"\n<env>\n  Working directory: /{r.choice(w.FOLDERS)}/{folder}\n  Is directory a git repo: {git}\n"
            f"  Platform: {platform}\n  Today's date: {day}\n</env>"
        )
    return r.choice((" ", " ", "\n")).join(parts)


def sentence_case(r: Source, text: str, calls: Calls | None = None) -> str:
    """Mostly with a capital at the beginning, unless a value stands there."""
    values = [str(v) for _, arguments in calls or () for v in arguments.values()]
    if any(text.startswith(v) for v in values if v) or r.maybe(0.2):
        return text
    return text[:1].upper() + text[1:]


def finish(r: Source, tool: Tool, text: str) -> str:
    """Add what stands at the end of a request."""
    end = pick(r, QUESTION_ENDS if tool.asks == "question" else ENDS)
    return text if text.endswith(("?", "!", "```")) else text + end


def single(r: Source, tools: list[Tool]) -> tuple[str, Calls]:
    """A request for one call."""
    tool = r.choice(tools)
    text, arguments = tool.request(r)
    calls = [(tool, arguments)]
    return sentence_case(r, finish(r, tool, led(r, tool, text)), calls), calls


def several(r: Source, tools: list[Tool]) -> tuple[str, Calls]:
    """A request for two calls (sometimes three): different tools, or one tool for several values."""
    tool = r.choice(tools)
    if r.maybe(0.4):
        many = _one_tool_many_values(r, tool)
        if many:
            return many
    count = 3 if r.maybe(0.05) else 2
    text = ""
    calls: Calls = []
    for index in range(count):
        tool = r.choice(tools) if index or len(tools) == 1 else tool
        if index and len(tools) > 1 and r.maybe(0.7):
            tool = r.choice([t for t in tools if t is not calls[-1][0]])
        more, arguments = tool.request(r)
        more = led(r, tool, more) if r.maybe(0.5) else more
        joint = pick(r, JOINTS)
        if index:
            text += joint + (sentence_case(r, more, [(tool, arguments)]) if joint.endswith(". ") else more)
        else:
            text = more
        calls.append((tool, arguments))
    return sentence_case(r, finish(r, calls[-1][0], text), calls), calls


def _one_tool_many_values(r: Source, tool: Tool) -> tuple[str, Calls] | None:
    """`the weather in Oslo and Rome`: the last value of the request is given twice or three times."""
    text, arguments = tool.request(r)
    strings = [
        (k, v) for k, v in arguments.items() if isinstance(v, str) and "\n" not in v and text.endswith(v) and len(v) > 1
    ]
    if not strings or any(str(v) != strings[0][1] and strings[0][1] in str(v) for v in arguments.values()):
        return None
    key, value = strings[0]
    given = next(p for p in tool.parameters if p.name == key)
    if given.choices:
        return None
    values = [value]
    while len(values) < (3 if r.maybe(0.2) else 2):
        other = given.make(r)
        if other in values or "\n" in other:
            return None
        values.append(other)
    if any(" and " in v or "," in v for v in values):
        return None
    joint = r.choice(
        (" and ", " and ", " and also ")
        if r.held
        else (" and ", " and ", " and ", ", and ", " and for ", " as well as ", ", ")
    )
    text = text[: -len(value)] + ", ".join(values[:-1]) + joint + values[-1]
    calls = [(tool, {**arguments, key: v}) for v in values]
    return sentence_case(r, finish(r, tool, text), calls), calls


def question(r: Source) -> str:
    """Something that no tool is for."""
    text = pick(r, QUESTIONS)
    for slot, pool in (
        ("{n}", w.NOUNS),
        ("{m}", w.NOUNS),
        ("{a}", w.ADJECTIVES),
        ("{v}", w.VERBS),
        ("{c}", w.COUNTRIES),
        ("{d}", w.COUNTRIES),
    ):
        if slot in text:
            text = text.replace(slot, _fresh_word(r, pool))
    return sentence_case(r, text)


def _fresh_word(r: Source, pool: list[str]) -> str:
    return r.fresh(lambda: r.choice(pool))


def unfit(r: Source, tools: list[Tool]) -> str:
    """A request that none of the tools is for: another tool's, or a question about the world."""
    if r.maybe(0.3):
        return question(r)
    taken = {t.name for t in tools}
    topics = frozenset().union(*(t.topic for t in tools)) if tools else frozenset()
    for _ in range(40):
        other = unfamiliar(r) if r.held or r.maybe(0.6) else familiar(r)
        if other.name not in taken and topics.isdisjoint(other.topic):
            text, _arguments = other.request(r)
            return sentence_case(r, finish(r, other, led(r, other, text)))
    return question(r)


def echo(r: Source) -> tuple[str, str]:
    """A text to be repeated: the plainest exercise in where a value ends."""
    text = r.fresh(
        lambda: r.choice(
            (
                phrase,
                sentence,
                lambda s: " ".join(invented(s) for _ in range(s.randint(1, 5))),
                identifier,
                path,
                lambda s: " ".join(s.choice(w.FOREIGN) for _ in range(s.randint(1, 3))),
            )
        )(r)
    )
    shown = text
    if r.maybe(0.4) and '"' not in text:
        shown = f'"{text}"'
    return pick(r, ECHO).format(shown), text


def conversation(r: Source, tools: list[Tool], short: bool = False) -> list[Message]:
    """One to three requests; a short one is a single request."""
    out: list[Message] = []
    for _ in range(1 if short else r.choice((1, 1, 1, 1, 1, 2, 2, 3))):
        x = r.random()
        if x < 0.04 or (not tools and x < 0.4):
            asked, told = r.choice(SMALLTALK_HELD if r.held else CHAT)
            out += [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
        elif x < 0.07:
            asked, told = echo(r)
            out += [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
        elif x < 0.24 or not tools:
            out += [{"role": "user", "content": unfit(r, tools)}, {"role": "assistant", "content": NONE}]
        else:
            text, calls = several(r, tools) if x < 0.56 else single(r, tools)
            out += [{"role": "user", "content": text}, call_message([(t.name, a) for t, a in calls])]
            if r.maybe(0.5):
                if r.maybe(0.7):
                    break
                continue
            said: list[str] = []
            for tool, arguments in calls:
                result = make_result(r, tool, arguments)
                out.append({"role": "tool", "content": written(r, result)})
                said.append(answer_to(result))
            out.append({"role": "assistant", "content": " ".join(said)})
    return out


def document(r: Source, size: str = "normal") -> Document:
    """A document of one of `SIZES`."""
    counts, branches = SIZES[size]
    count = 0 if r.maybe(0.03) else r.choice(counts)
    plain = size == "plain"
    tools = make_tools(r, count, 2 if size == "easy" else 9, plain)
    schemas = [t.schema(r) for t in tools]
    system = None if size == "easy" else system_prompt(r, size == "long" and r.maybe(0.5))
    turns = [conversation(r, tools, size in ("easy", "short")) for _ in range(branches)]
    return Document(r.choice(("qwen", "llama")), schemas, system, turns)
