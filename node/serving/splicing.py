"""Generated turns back into a rendered conversation, in place of what the template made of them.

The messages round a turn get a mark at the edge that faces it. Between two marks the rendered text is: how the
template opened the turn, the turn, how it closed it and went on. The first two are replaced by what really stood there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from node.serving.history import Entry
from node.serving.recall import Turn
from parsers import Format

EDGE: Final = "\ufdd2"
IDS: Final = "\ufdd3"
"""Noncharacters round a number: the edge of a message, and a recalled turn in a rendered text."""

_EDGES: Final = re.compile(f"{EDGE}([0-9]{{1,9}}){EDGE}")
_OVERLAP: Final = 64
"""Characters of a turn's end that its template may write once more."""
_NEEDLE: Final = 16
"""Characters of an answer by which its end is found."""


def mark(entries: Sequence[Entry], turns: Mapping[int, Turn]) -> None:
    """Marks the edges of the messages round every turn that is to be put back, and the end of what was said in one
    without calls; changes the entries."""
    for at, entry in enumerate(entries):
        if entry.index not in turns or entry.role != "assistant" or not 0 < at < len(entries) - 1:
            continue
        before, behind = entries[at - 1], entries[at + 1]
        if (
            before.role == "assistant"
            or behind.role == "assistant"
            or not (before.text.strip() and behind.text.strip())
        ):
            continue
        edge = f"{EDGE}{entry.index}{EDGE}"
        before.text = _at_end(before.text, edge)
        kept = behind.text.lstrip()
        behind.text = f"{behind.text[: len(behind.text) - len(kept)]}{edge}{kept}"
        if not entry.calls:
            entry.text = _at_end(entry.text, edge)


def _at_end(text: str, edge: str) -> str:
    """The mark behind the last character that a template would not trim."""
    kept = text.rstrip()
    return f"{kept}{edge}{text[len(kept) :]}"


def splice(
    text: str,
    entries: Sequence[Entry],
    turns: Mapping[int, Turn],
    spec: Format,
    ends: Sequence[str],
    decode: Callable[[Sequence[int]], str],
) -> str:
    """The text with the turns put back as `IDS` marks, and without any edge.

    A turn whose place cannot be told stays as the template wrote it.

    Args:
        text: as rendered.
        entries: what it was rendered from, marked.
        turns: by the index of their messages.
        spec: says how a call ends.
        ends: end-of-turn tokens.
        decode: ids to text.
    """
    said = {entry.index: entry for entry in entries if entry.role == "assistant"}
    pieces = _EDGES.split(text)
    counts = Counter(pieces[1::2])
    out, at = [pieces[0]], 1
    while at < len(pieces):
        index = int(pieces[at])
        size = 2 if index in said and said[index].calls else 3
        whole = index in turns and counts[pieces[at]] == size and pieces[at : at + 2 * size : 2] == [pieces[at]] * size
        if not whole:
            out.append(pieces[at + 1])
            at += 2
            continue
        region = pieces[at + 1 : at + 2 * size - 1 : 2]
        out += [_put_back(region, said[index], turns[index], spec, ends, decode), pieces[at + 2 * size - 1]]
        at += 2 * size
    return "".join(out)


def _put_back(
    region: Sequence[str],
    entry: Entry,
    turn: Turn,
    spec: Format,
    ends: Sequence[str],
    decode: Callable[[Sequence[int]], str],
) -> str:
    """The text between two messages with the turn put back; the region is cut at the end of an answer, if it is one."""
    whole = "".join(region)
    close = _closing(whole, spec, ends) if entry.calls else len(region[0])
    if close is None:
        return whole
    rest = whole[close:]
    tail = decode(turn.ids[-_OVERLAP:])[-_OVERLAP:]
    if not entry.calls:
        # Only what the model wrote behind its answer can be written once more.
        answer = without_edges(entry.text).strip()[-_NEEDLE:]
        tail = tail.rpartition(answer)[2] if answer in tail else ""
    doubled = next((size for size in range(min(len(tail), len(rest)), 0, -1) if tail.endswith(rest[:size])), 0)
    return f"{turn.opened}{IDS}{entry.index}{IDS}{rest[doubled:]}"


def without_edges(text: str) -> str:
    """The text without any mark of an edge."""
    return _EDGES.sub("", text) if EDGE in text else text


def _closing(region: str, spec: Format, ends: Sequence[str]) -> int | None:
    """Where in the region the last call is over: at the markup that closes it, or at the end of the turn."""
    closing = re.split(r"[})\]]", spec.wire.tail + spec.wire.closing)[-1].strip()
    for literals in ([closing] if closing else [], ends):
        at = max((region.rfind(literal) for literal in literals), default=-1)
        if at >= 0:
            return at
    bracket = max(region.rfind(end) for end in "})]")
    return bracket + 1 if bracket >= 0 else None


def parts(text: str, turns: Mapping[int, Turn]) -> list[Any]:
    """The text cut at the turns: texts and turns by turns, a text first."""
    pieces: list[Any] = re.split(f"{IDS}([0-9]{{1,9}}){IDS}", text)
    return [turns.get(int(piece), "") if place % 2 else piece for place, piece in enumerate(pieces)]
