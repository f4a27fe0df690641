# ruff: noqa: SIM905 - data: words in a row
"""Where tools come from: a catalogue of familiar ones, and an endless supply of unfamiliar ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import words as w
from .catalogue import CATALOGUE_NAMES, CODING, ENTRIES, EVERYDAY, MORE
from .kinds import KINDS
from .parameters import Parameter, new_name, parameter, parameters, split_name
from .phrasings import ACT, ASK, BARE, PLAIN, Split
from .split import Source, held_out
from .tools import Tool
from .values import invented

# kinds of parameters, as often as they stand here; code, commands and patterns belong to the tools of the catalogue
LOOKUP_KINDS = tuple(
    "place place place person person word word identifier identifier path phrase date url email".split()
)
ACTION_KINDS = tuple(
    """place place person person person phrase phrase phrase word word date date time time integer integer integer
    number number enum enum enum flag email path path identifier identifier url sentence language list people""".split()
)


def styled(r: Source, words: str) -> str:
    """Snake, camel, kebab or Pascal case."""
    parts = words.replace("_", " ").split()
    x = r.random()
    if x < 0.62:
        return "_".join(parts)
    if x < 0.82:
        return parts[0] + "".join(p.capitalize() for p in parts[1:])
    return "-".join(parts) if x < 0.9 else "".join(p.capitalize() for p in parts) if x < 0.95 else "".join(parts)


def _topic(*texts: str) -> frozenset[str]:
    return frozenset(word for text in texts for word in split_name(text).split())


def unfamiliar(r: Source) -> Tool:
    """A tool of the source's side, made up: a look-up, an action, or (in training) one whose name says nothing."""
    x = r.random()
    if x < 0.4:
        return _lookup(r)
    if x < 0.86 or (r.held and x < 0.93):
        return _action(r)
    return _plain(r) if r.held or x < 0.92 else _nonsense(r)


def some(r: Source, split: Split, count: int = 8) -> list[str]:
    """A few phrasings of the source's side, to choose from."""
    return r.choices(split.held if r.held else split.train, k=count)


def _named(r: Source, make: Any) -> Any:
    for _ in range(500):
        name, rest = make()
        if held_out(name) == r.held and name not in CATALOGUE_NAMES:
            return name, rest
    raise ValueError("no name on this side of the split")


def _lookup(r: Source) -> Tool:
    def make() -> tuple[str, tuple[str, str]]:
        noun = r.choice(w.ATTRIBUTES) if r.maybe(0.7) else r.choice(w.NOUNS) if r.held or r.maybe(0.7) else invented(r)
        if r.maybe(0.15):
            noun = r.choice(w.ADJECTIVES) + "_" + noun
        verb = r.choice(w.LOOKUPS)
        return styled(r, r.choice((f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}_{noun}", noun, f"{noun}_{verb}"))), (
            noun,
            verb,
        )

    name, (noun, verb) = _named(r, make)
    kinds = [r.choice(LOOKUP_KINDS)]
    if r.maybe(0.3):
        kinds.append(r.choice(("date", "integer", "enum", "place", "language", "flag", "word")))
    given = parameters(r, kinds)
    key = next(p for p in given if p.kind == kinds[0])
    said = split_name(noun)
    frames = tuple(f.replace("{noun}", said).replace("{key}", "{" + key.name + "}") for f in some(r, ASK))
    by = split_name(key.name)
    about = r.choice(
        (
            f"{verb.capitalize()} the {said}", f"Get the {said} of something", f"Returns the {said}",
            f"{said.capitalize()} of a {by}", f"Look up the {said} for a given {by}",
            f"Retrieve {said} information by {by}.", f"{said.capitalize()} lookup",
        )
    )  # fmt: skip
    return Tool(name, about.replace("_", " "), given, frames, _topic(noun))


def _action(r: Source) -> Tool:
    def make() -> tuple[str, tuple[str, str]]:
        verb = r.choice(tuple(w.SYNONYMS))
        noun = r.choice(w.OBJECTS) if r.maybe(0.75) else r.choice(w.NOUNS) if r.held or r.maybe(0.7) else invented(r)
        return styled(r, r.choice((f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}_{noun}", f"{noun}_{verb}"))), (
            noun,
            verb,
        )

    name, (noun, verb) = _named(r, make)
    given = parameters(
        r,
        [r.choice(ACTION_KINDS) for _ in range(r.choice((1, 1, 1, 1, 2, 2, 2, 2, 3)))],
    )
    said = split_name(noun)
    says = r.choice(w.SYNONYMS[verb]) if r.maybe(0.4) else w.SYNONYMS[verb][0]
    article = (
        r.choice(("a", "a", "the", "the", "my", ""))
        if not said.startswith(tuple("aeiou"))
        else r.choice(("an", "the", "my"))
    )
    frames = tuple(f.replace("{do}", says).replace("{thing}", f"{article} {said}".strip()) for f in some(r, ACT))
    act = split_name(verb)
    about = r.choice(
        (
            f"{act.capitalize()} a {said}", f"{act.capitalize()}s a {said}", f"{act.capitalize()} the given {said}.",
            f"Use this to {act} a {said}", f"{act.capitalize()} a {said} in the system", f"{said.capitalize()}: {act}",
        )
    )  # fmt: skip
    return Tool(name, about, given, frames, _topic(verb, noun), asks="order")


def _plain(r: Source) -> Tool:
    """A tool that needs nothing to be told."""

    def make() -> tuple[str, str]:
        noun = r.choice((*w.ATTRIBUTES, *w.OBJECTS)) if r.maybe(0.8) else r.choice(w.NOUNS)
        return styled(
            r, f"{r.choice((*w.LOOKUPS, *w.LOOKUPS, 'start', 'stop', 'pause', 'restart', 'clean'))}_{noun}"
        ), noun

    name, noun = _named(r, make)
    said = split_name(noun)
    frames = tuple(f.replace("{name}", split_name(name)).replace("{noun}", said) for f in some(r, PLAIN))
    return Tool(
        name,
        split_name(name).capitalize(),
        parameters(r, []) if r.maybe(0.3) else [],
        frames,
        _topic(name),
        asks="order",
    )


def _nonsense(r: Source) -> Tool:
    def make() -> tuple[str, None]:
        return styled(r, invented(r) + r.choice(("", " " + invented(r), " " + r.choice(w.OBJECTS)))), None

    name, _ = _named(r, make)
    given = parameters(r, [r.choice(ACTION_KINDS) for _ in range(r.choice((1, 1, 2, 3)))]) if r.maybe(0.85) else []
    frames = tuple(f.replace("{name}", name) for f in some(r, BARE))
    return Tool(
        name,
        r.choice(("A tool", "", f"Runs {name}", f"The {name} tool", "Internal tool")),
        given,
        frames,
        _topic(name),
        asks="order",
    )


PLAINEST = 21  # the first entries of the catalogue: weather, time, sums, files
FIRST_TRIED = ("get_weather", "calculator", "calculator", "read_file")


def familiar(r: Source, plain: bool = False) -> Tool:
    """A tool of the catalogue; unless `plain`, often with other names, or of parameters, than people expect."""
    x = r.uniform(0, 0.4) if plain else r.random()
    name, about, given, frames, topic = r.choice(
        CODING if x < 0.15 else ENTRIES[:PLAINEST] if x < 0.4 else ENTRIES if x < 0.6 else (*EVERYDAY, *MORE)
    )
    if plain and r.maybe(0.4):
        tried = r.choice(FIRST_TRIED)
        name, about, given, frames, topic = r.choice([e for e in ENTRIES if e[0] == tried])
    said = tuple(_numbered(frame, given) for frame in frames)
    params = [replace(p) for p in given]
    asks = "question" if frames[0].startswith(("what", "how", "who", "where", "is", "when")) else "order"
    if plain or r.maybe(0.35):
        return Tool(name, about, params, said, frozenset(topic.split()), familiar=True, asks=asks)
    if r.maybe(0.5):
        params = [_renamed(r, p, {q.name for q in given}) for p in params]
        for p, q in zip(given, params, strict=True):
            said = tuple(frame.replace("{" + p.name + "}", "{" + q.name + "}") for frame in said)
        if r.maybe(0.3):
            r.shuffle(params)
    if r.maybe(0.15):
        extra = parameter(r, r.choice(("enum", "integer", "flag", "word", "date")), {p.name for p in params})
        extra.required = False
        params.append(extra)
    if r.maybe(0.3):
        words = split_name(name)
        variant = styled(
            r,
            r.choice(
                (
                    words,
                    words,
                    f"{r.choice(w.LOOKUPS)} {words}",
                    f"{words} {r.choice(('tool', 'v2', 'api', 'now', 'service'))}",
                    f"{r.choice(('my', 'do', 'app', 'home'))} {words}",
                )
            ),
        )
        name = variant if not held_out(variant) else name
    return Tool(name, about, params, said, frozenset(topic.split()), familiar=True, asks=asks)


def _renamed(r: Source, p: Parameter, taken: set[str]) -> Parameter:
    """Half of the time the same parameter under another name of its kind."""
    if p.kind in ("enum", "flag") or r.maybe(0.5):
        return p
    names = [n for n in KINDS[p.kind].names if n not in taken]
    name = r.choice(names) if r.maybe(0.7) else new_name(r, taken)
    taken.add(name)
    return replace(p, name=name, extra={})


def _numbered(frame: str, given: tuple[Parameter, ...]) -> str:
    for index, p in enumerate(given):
        frame = frame.replace("{" + str(index) + "}", "{" + p.name + "}")
    return frame
