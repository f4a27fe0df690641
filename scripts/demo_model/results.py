"""What tools give back, and what a model makes of it: always by the same simple rules, so that they can be learnt."""

from __future__ import annotations

import json
from typing import Any

from . import words as w
from .parameters import split_name
from .split import Source
from .tools import Tool
from .values import clock, date, invented, number, phrase, place, plain_word, sentence

CONDITIONS = ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", "stormy"]
DONE = ["ok", "success", "status", "done", "sent", "created", "deleted", "saved"]


def said(value: Any) -> str:
    """A result's value in words: the text itself, a list with `and`, true and false as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        words = [said(v) for v in value]
        return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return str(value)


def answer(result: Any) -> str:
    """The answer that uses a tool's result.

    A number, one word or two: `The result is 7.`; a longer text: itself; an object: `The price is 7 and the size is
    2.`; a list: `I found a, b and c.`; an error: `The tool failed: why.`; success without more: `Done.`
    """
    if isinstance(result, dict):
        if "error" in result:
            return f"The tool failed: {str(result['error']).rstrip('.')}."
        left = {k: v for k, v in result.items() if not (k in DONE and (v is True or v in ("ok", "success", "done")))}
        if not left:
            return "Done."
        parts = [f"the {split_name(k)} is {said(v)}" for k, v in left.items()]
        text = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        return text[0].upper() + text[1:] + "."
    if isinstance(result, list):
        return f"I found {said(result)}." if result else "I found nothing."
    text = str(result).strip()
    if not text:
        return "Done."
    if text.count(" ") < 2 and "\n" not in text:
        return f"The result is {text.rstrip('.!?')}."
    text = text.split("\n")[0]
    return text if text[-1] in ".!?" else text + "."


def _value(r: Source) -> Any:
    make = r.choice(
        (
            number,
            number,
            plain_word,
            plain_word,
            phrase,
            place,
            date,
            clock,
            lambda s: s.randint(0, 100),
            lambda s: s.maybe(0.5),
        )
    )
    value = make(r)
    return value if isinstance(value, bool) else r.fresh(lambda: _not_bool(make(r)))


def _not_bool(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def make_result(r: Source, tool: Tool, arguments: dict[str, Any]) -> Any:
    """A result that the tool might give: text, number, object, list or error."""
    if "weather" in tool.topic and r.maybe(0.7):
        degrees = r.fresh(lambda: r.randint(-15, 42))
        names = r.choice(
            (("temperature", "condition"), ("temp", "sky"), ("degrees", "weather"), ("temperature", "conditions"))
        )
        if r.maybe(0.25):
            return f"{degrees} degrees"
        if r.maybe(0.3):
            return (
                f"{r.choice(CONDITIONS)}, {degrees} degrees"
                if r.maybe(0.5)
                else f"{degrees} degrees, {r.choice(CONDITIONS)}"
            )
        out: dict[str, Any] = {names[0]: degrees, names[1]: r.choice(CONDITIONS)}
        return {"city": next(iter(arguments.values())), **out} if r.maybe(0.2) and arguments else out
    if "file" in tool.topic and tool.name.startswith("read") and r.maybe(0.7):
        text = r.fresh(lambda: sentence(r) if r.maybe(0.6) else phrase(r))
        return f"<file>\n00001| {text}\n\n(End of file - total 1 lines)\n</file>" if r.maybe(0.2) else text
    x = r.random()
    if x < 0.1:
        return {"result": _value(r)}
    if x < 0.2:
        return r.fresh(lambda: number(r))
    if x < 0.42:
        return r.fresh(lambda: sentence(r) if r.maybe(0.5) else phrase(r))
    if x < 0.5:
        return {"error": r.fresh(lambda: " ".join(plain_word(r) for _ in range(r.randint(2, 4))))}
    if x < 0.57:
        return r.choice(
            ({"ok": True}, {"status": "ok"}, {"success": True}, {"status": "success"}, "", {"deleted": True})
        )
    if x < 0.65:
        return [r.fresh(lambda: plain_word(r)) for _ in range(r.randint(0, 4))]
    keys = [
        r.choice(w.ATTRIBUTES) if r.maybe(0.7) else invented(r) if r.maybe(0.3) else r.choice(w.NOUNS)
        for _ in range(r.choice((1, 1, 2, 2, 3)))
    ]
    return {key: _value(r) for key in keys if key not in DONE}


def written(r: Source, result: Any) -> str:
    """The result as the text of a tool message."""
    if isinstance(result, str):
        return result
    return json.dumps(result, ensure_ascii=False, separators=(",", ":") if r.maybe(0.2) else None)


def answer_to(result: Any) -> str:
    """As `answer`; what a reading tool wraps around a file is taken off first."""
    if isinstance(result, str) and result.startswith("<file>"):
        return answer(result.split("| ", 1)[1].split("\n")[0])
    return answer(result)
