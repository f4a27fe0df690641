"""Which formats a text could be of: the known call as each of them writes it, looked for in what a template wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from node.serving.detection.probe import ARGUMENTS, CALL_ID, NAME, RESULT
from parsers import FORMATS, Format
from parsers.writing import write_calls

GENERIC: Final = "generic_none"


def candidates() -> Iterable[Format]:
    """Every format that can be recognised."""
    return (FORMATS[key] for key in FORMATS if key != GENERIC)


def by_call(rendered: str, source: str) -> Format | None:
    """The format in which the known call is written."""
    return _best(_shapes_of_call, rendered, source)


def by_result(rendered: str, source: str) -> Format | None:
    """The format in which the known result is written, if it is a distinctive way."""
    return _best(_shapes_of_result, rendered, source)


def by_text(text: str, source: str) -> Format | None:
    """The format that a text about calls spells an opening marker of."""
    found = [one for one in candidates() if any(_telling(marker) and marker in text for marker in one.openers)]
    return max(found, key=lambda one: _rank(one, text, source), default=None)


def by_opening(literals: Collection[str], likely: Format | None) -> Format | None:
    """The format whose calls one of the literals opens; `likely` if it is among several."""
    wanted = [literal.strip() for literal in literals if literal.strip()]
    found = [one for one in candidates() if any(_begins(one, literal) for literal in wanted)]
    if likely is not None and likely in found:
        return likely
    return next(iter(found), None) if len({one.wire.head for one in found}) == 1 else None


def by_vocabulary(tokens: Collection[str]) -> Format | None:
    """The format most of whose markup the vocabulary has tokens for; it must have the one that opens a call."""
    best: tuple[tuple[int, int, bool, int], Format] | None = None
    for one in candidates():
        if not any(marker in tokens and _telling(marker) for marker in one.openers):
            continue
        wire = one.wire
        written = wire.opening + wire.head + wire.middle + "".join(wire.parameter) + wire.tail + wire.closing
        markup = set(re.findall(r"<[^<>\s=\"]+>|\[[A-Z_]+\]", written))
        known = sum(marker in tokens for marker in markup)
        rank = (known - len(markup), known, any(end in tokens for end in one.ends), _speakers(one))
        if best is None or rank > best[0]:
            best = (rank, one)
    return best[1] if best else None


def _telling(marker: str) -> bool:
    """Whether a marker is long enough to mean something wherever it stands."""
    return len(marker.strip()) >= 5 and not marker.strip().isalpha()


def _begins(one: Format, literal: str) -> bool:
    return literal in (marker.strip() for marker in one.openers) or (one.wire.opening + one.wire.head).startswith(
        literal
    )


def _shapes_of_call(one: Format) -> list[str]:
    wire = one.wire
    head = (wire.opening + wire.head + NAME + wire.middle).replace("{index}", "0").replace("{id}", CALL_ID)
    # Without any markup of its own, a name alone says nothing.
    return [write_calls(one, [(NAME, json.dumps(ARGUMENTS))]), head if len(_squeeze(head)) > len(NAME) + 1 else ""]


def _shapes_of_result(one: Format) -> list[str]:
    known: Mapping[str, Any] = {"result": RESULT, "name": NAME, "id": CALL_ID, "index": "0"}
    text = re.sub(r"\{(result|name|id|index)\}", lambda found: str(known[found[1]]), one.wire.result)
    return [text if len(_squeeze(text)) > len(RESULT) + 4 else ""]


def _best(shapes: Any, rendered: str, source: str) -> Format | None:
    squeezed = _squeeze(rendered)
    found: list[tuple[tuple[Any, ...], Format]] = []
    for one in candidates():
        for level, shape in enumerate(shapes(one)):
            if shape and _squeeze(shape) in squeezed:
                size = len(_squeeze(shape))
                found.append(((-level, size, *_rank(one, rendered, source), shape in rendered), one))
                break
        else:
            if one.signs and all(sign in rendered for sign in one.signs) and NAME in rendered:
                found.append(((-9, 0, *_rank(one, rendered, source), False), one))
    return max(found, key=lambda each: each[0])[1] if found else None


def _rank(one: Format, rendered: str, source: str) -> tuple[Any, ...]:
    """What tells apart formats that write a call alike: signs, end-of-turn tokens, results, thoughts."""
    text = source + rendered
    signs = all(sign in text for sign in one.signs) if one.signs else 0.5
    ends = sum(end in text for end in one.ends) / len(one.ends) if one.ends else 0.0
    thinks = any(thought.open.strip() in source for thought in one.thoughts)
    answered = any(shape and shape in rendered for shape in _shapes_of_result(one))
    return (signs, ends > 0, thinks == bool(one.thoughts), answered, ends, len(one.signs), _speakers(one))


def _speakers(one: Format) -> int:
    """How many families of models are known to speak the format: where all else is equal, the likelier."""
    return one.models.count(",")


def _squeeze(text: str) -> str:
    """Without white space, and with one kind of quotation mark."""
    return re.sub(r"\s+", "", text).replace("'", '"')
