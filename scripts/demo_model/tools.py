"""A tool: its schema as clients send it, and requests that need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .kinds import COUNTED, KINDS, SPOKEN
from .parameters import Parameter, split_name
from .phrasings import EXPLICIT, LEADS, QUOTES, Split
from .split import Source


@dataclass
class Tool:
    """A tool and the ways to ask for it. `frames` hold `{name}` for each parameter that they mention."""

    name: str
    description: str
    parameters: list[Parameter]
    frames: tuple[str, ...]
    topic: frozenset[str]
    familiar: bool = False
    asks: str = "question"
    extra: dict[str, Any] = field(default_factory=dict)

    def schema(self, r: Source) -> dict[str, Any]:
        """The tool as a client sends it, sometimes without a description."""
        properties = {p.name: p.schema(r) for p in self.parameters}
        required = [p.name for p in self.parameters if p.required]
        body: dict[str, Any] = {"type": "object", "properties": properties}
        if required:
            body["required"] = required
        function: dict[str, Any] = {"name": self.name, "description": self.description, "parameters": body}
        if r.maybe(0.1):
            del function["description"]
        return {"type": "function", "function": function}

    def request(self, r: Source) -> tuple[str, dict[str, Any]]:
        """A request in words, without lead or full stop, and the arguments that it asks for."""
        frame = r.choice(self.frames)
        arguments: dict[str, Any] = {}
        named = [p for p in self.parameters if "{" + p.name + "}" in frame]
        rest = [p for p in self.parameters if p not in named and (p.required or r.maybe(0.3))]
        if len(rest) > 1 and r.maybe(0.25):
            r.shuffle(rest)
        text = frame
        for p in named:
            arguments[p.name] = p.make(r)
            text = text.replace("{" + p.name + "}", spoken(r, p, arguments[p.name]))
        explicit = pick(r, EXPLICIT)
        joint = r.choice((", ", " and ", " and ", " ", ", and "))
        first = True
        for p in rest:
            arguments[p.name] = p.make(r)
            alone = not any(q is not p and _confused(p, q) for q in self.parameters)
            text += _said(r, p, arguments[p.name], explicit, joint, first, alone)
            first = False
        order = {p.name: i for i, p in enumerate(self.parameters)}
        return text, dict(sorted(arguments.items(), key=lambda item: order[item[0]]))


def pick(r: Source, split: Split) -> str:
    """A phrasing of the source's side."""
    return r.choice(split.held if r.held else split.train)


def spoken(r: Source, parameter: Parameter, value: Any) -> str:
    """A value as people write it in a request: bare, in quotes, or as a list in words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        joint = r.choice((" and ", ", ", ", and "))
        return ", ".join(value[:-1]) + joint + str(value[-1])
    text = str(value)
    if not isinstance(value, str):
        return text
    quoted = KINDS[parameter.kind].quoted if parameter.kind in KINDS else 0.03
    if "\n" in text:
        return r.choice(
            [q + text + p for q, p in (("```\n", "```"), ('"', '"'), ("'", "'")) if p not in text] or [f"«{text}»"]
        )
    if quoted and r.maybe(quoted):
        left, right = r.choice([q for q in QUOTES if q[1] not in text] or [("«", "»")])
        return left + text + right
    return text


VAGUE = ("place", "person", "phrase", "sentence", "word", "identifier", "lines", "list", "people", "email")


def _confused(p: Parameter, q: Parameter) -> bool:
    """Whether a value without the parameter's name could belong to either."""
    both = {p.kind, q.kind}
    return p.kind == q.kind or all(k in VAGUE for k in both) or both == {"number", "integer"}


def _said(r: Source, p: Parameter, value: Any, explicit: str, joint: str, first: bool, alone: bool) -> str:
    """How one more argument is added to a request; `alone`: the tool has no other that it could be taken for."""
    text = spoken(r, p, value)
    ways = p.says or (KINDS[p.kind].says if p.kind in KINDS else ())
    if p.name in COUNTED and p.json == "integer" and r.maybe(0.75):
        return " " + COUNTED[p.name].format(text)
    if p.kind == "flag" and value and r.maybe(0.6):
        return r.choice((", make it {}", ", {} please", " ({})", " and make it {}", ", {}")).format(split_name(p.name))
    if ways and alone and r.maybe(0.65):
        way = r.choice(ways)
        return ("" if way[0] in ".,?" else " ") + way.format(SPOKEN.get(text, text) if p.choices else text)
    name = p.name if r.maybe(0.5) else split_name(p.name)
    lead = " with " if first and explicit.startswith("{p}") and r.maybe(0.7) else (" " if first else joint)
    return lead + explicit.replace("{p}", name).replace("{v}", text)


def led(r: Source, tool: Tool, text: str) -> str:
    """An order with what polite people put before it; other requests as they are."""
    plain = tool.asks == "order" and not text.startswith(
        (
            "I ",
            "I'",
            "let",
            "we ",
            "my ",
            "it ",
            "it'",
            "you ",
            "time ",
            "go ",
            "would ",
            "don't",
            "somebody",
            "make sure",
            "the ",
            "about ",
        )
    )
    return pick(r, LEADS) + text if plain and r.maybe(0.4) else text
