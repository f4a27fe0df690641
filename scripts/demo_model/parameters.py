"""Parameters of tools: their names, schemas and values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import words as w
from .kinds import ENUMS, FLAGS, KINDS
from .split import Source, held_out
from .values import invented, plain_word


def split_name(name: str) -> str:
    """`dueDate` and `due_date` as words: `due date`."""
    return (
        "".join(" " + c.lower() if c.isupper() and i else c for i, c in enumerate(name))
        .replace("_", " ")
        .replace("-", " ")
        .lower()
    )


@dataclass
class Parameter:
    """One parameter of a tool and how a request mentions it."""

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    required: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> str:
        """Its JSON schema type."""
        return "string" if self.kind == "enum" else "boolean" if self.kind == "flag" else KINDS[self.kind].json

    def make(self, r: Source) -> Any:
        """A value on the source's side of the split (choices and booleans belong to no side)."""
        if self.kind == "enum":
            return r.choice(self.choices)
        if self.kind == "flag":
            return r.maybe(0.85)
        if self.json == "array":
            whole = KINDS[self.kind].make
            return list(r.fresh(lambda: _sided(r, whole(r))))
        return r.fresh(lambda: KINDS[self.kind].make(r))

    def schema(self, r: Source) -> dict[str, Any]:
        """Its JSON schema, with or without a description."""
        out: dict[str, Any] = {"type": self.json}
        if self.json == "array":
            out["items"] = {"type": "string"}
        if self.choices:
            out["enum"] = list(self.choices)
        if r.maybe(0.2):
            kind = KINDS.get(self.kind)
            known = kind.meaning if kind and r.maybe(0.6) else ()
            words = split_name(self.name)
            text = r.choice(
                known
                or (
                    f"The {words}",
                    f"{words.capitalize()} to use",
                    f"Which {words}",
                    words.capitalize(),
                    f"The {words} of it",
                )
            )
            out = {"description": text, **out} if r.maybe(0.2) else {**out, "description": text}
        out.update(self.extra)
        return out


def _sided(r: Source, items: list[str]) -> list[str]:
    return [item if held_out(item) == r.held else r.fresh(lambda: plain_word(r)) for item in items]


def parameter(r: Source, kind: str, taken: set[str]) -> Parameter:
    """A parameter of the kind with a name that the tool does not have yet."""
    if kind == "enum":
        name, choices, says = r.choice([e for e in ENUMS if e[0] not in taken] or ENUMS)
        return Parameter(name, kind, choices, says)
    if kind == "flag":
        return Parameter(r.choice([f for f in FLAGS if f not in taken]), kind)
    names = [n for n in KINDS[kind].names if n not in taken]
    if not names or r.maybe(0.08 if r.held else 0.3):
        return Parameter(new_name(r, taken), kind)
    return Parameter(r.choice(names), kind)


def new_name(r: Source, taken: set[str]) -> str:
    """A name that says nothing of the kind: it has to be read in the schema. In training some are no words at all."""
    while True:
        x = r.random()
        name = (
            r.choice(w.NOUNS)
            if x < 0.5
            else r.choice(w.ATTRIBUTES)
            if x < 0.7
            else f"{r.choice(w.NOUNS)}_{r.choice(w.NOUNS)}"
        )
        if not r.held and r.maybe(0.2):
            name = invented(r)
        if name not in taken:
            return name


def parameters(r: Source, kinds: list[str]) -> list[Parameter]:
    """Parameters of these kinds; some of them optional."""
    out: list[Parameter] = []
    for kind in kinds:
        out.append(parameter(r, kind, {p.name for p in out}))
    for p in out[1:]:
        p.required = r.maybe(0.75)
    if r.maybe(0.2):
        p = parameter(r, r.choice(("enum", "integer", "flag", "word", "phrase", "date")), {p.name for p in out})
        p.required = False
        out.append(p)
    if r.maybe(0.1):
        r.shuffle(out)
    return out
