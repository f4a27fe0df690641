"""Rules for one thing behind another: members of which some may be missing, and items of which only the last may."""

from __future__ import annotations

from collections.abc import Sequence

from node.serving.grammar.lark import Lark, choice, join, literal, optional, repeat


def sequence(
    lark: Lark,
    parts: Sequence[tuple[str, bool]],
    comma: str,
    others: str = "",
    low: int = 0,
    high: int | None = None,
) -> str:
    """The parts in their order, those that are not required perhaps not there, then any number of the others.

    `comma` stands between what is there, and of it all there are `low` to `high`. Empty where nothing can be there.
    """
    between = literal(comma)
    if (
        not comma
        and low <= sum(required for _, required in parts)
        and (high is None or (not others and high >= len(parts)))
    ):
        return join(*(part if required else optional(part) for part, required in parts), repeat(others, 0, None))
    # How many are there already; beyond `most` it makes no difference how many.
    most = max(low, 1) if high is None else high
    tails = [_rest(between, others, used, low, high) for used in range(most + 1)]
    # The same from the next block of parts on, and the ways in which the parts of this block can be the first.
    blocks, firsts = tails, list[str]()
    for index in range(len(parts) - 1, -1, -1):
        part, required = parts[index]
        found: list[str | None] = []
        for used in range(min(index, most) + 1):
            skipped = None if required else tails[used]
            after = tails[used + 1] if used < most else tails[most] if high is None else None
            taken = None if after is None else join(between if used else "", part, after)
            if not used:
                firsts = [*([] if taken is None else [taken]), *([] if required else firsts)]
            found.append(_named(lark, [way for way in (taken, skipped) if way is not None]))
        if index and not index % _BLOCK:
            block = parts[index : index + _BLOCK]
            if not any(needed for _, needed in block):
                found[0] = _named(lark, [*firsts, *([] if blocks[0] is None else [blocks[0]])])
            if high is None and index >= most:
                all_of_it = [join(between, one) if needed else optional(join(between, one)) for one, needed in block]
                behind = blocks[most]
                found[most] = None if behind is None else lark.rule(join(*all_of_it, behind))
            blocks, firsts = found, []
        tails = found
    return tails[0] or ""


# Rules that follow one another without end would overflow the stack that they are read with.
_BLOCK = 16


def _named(lark: Lark, ways: list[str]) -> str | None:
    """A rule for any of the ways; empty where that is nothing, None where there is none."""
    body = optional(choice(ways)) if "" in ways else choice(ways)
    return lark.rule(body) if body else "" if ways else None


def _rest(between: str, others: str, used: int, low: int, high: int | None) -> str | None:
    """The others, behind so many; None if there cannot be enough of them."""
    need, room = max(low - used, 0), None if high is None else high - used
    if not others or room == 0:
        return None if need else ""
    if used or not between:
        return repeat(join(between, others), need, room)
    some = join(others, repeat(join(between, others), max(need - 1, 0), None if room is None else room - 1))
    return some if need else optional(some)


def items(lark: Lark, first: Sequence[str], comma: str, rest: str, low: int, high: int | None) -> str:
    """The first items in their order, then the rest, `low` to `high` in all. None is there without all before it."""
    first = first if high is None else first[:high]
    if not first:
        return sequence(lark, [], comma, rest, low, high)
    between = literal(comma)
    tail = ""
    if rest and high != len(first):
        tail = repeat(join(between, rest), max(low - len(first), 0), None if high is None else high - len(first))
    for index in range(len(first) - 1, -1, -1):
        one = join(between if index else "", first[index], tail)
        tail = lark.rule(one) if index < low else optional(one)
    return tail
