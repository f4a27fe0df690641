"""A conversation as a chat template wants it: the repairs that its probe found necessary, and no others.

A template's author thinks of conversations that look like the training data. Agents send others: arguments that are no
JSON, results in any order or without a call, system messages in the middle, two questions in a row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from node.serving.detection import Quirks
from parsers import Format
from parsers.writing import write_calls
from tandem.errors import InvalidRequestError
from tandem.v1 import generation_pb2 as pb

Guard = Callable[[str], str]
"""Marks the control tokens that a text spells, so that they stay text."""

_ROLES: Final = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
    pb.ROLE_DEVELOPER: "system",
}
_BREAK: Final = "\n\n"
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class Call:
    """One call of the assistant; ``arguments`` is the text that came."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Entry:
    """One message on its way into a template. ``index``: of the message in the request."""

    role: str
    text: str
    index: int
    calls: list[Call] = field(default_factory=list)
    call_id: str = ""
    name: str = ""
    thought: str = ""


def entries(messages: Iterable[pb.ChatMessage], spec: Format, guard: Guard) -> list[Entry]:
    """The messages of a request, every text guarded.

    Raises InvalidRequestError for a role that there is none of.
    """
    made: list[Entry] = []
    own = _sparing(guard, [marker for thought in spec.thoughts for marker in (thought.open, thought.close)])
    for index, message in enumerate(messages):
        role = _ROLES.get(message.role)
        if role is None:
            raise InvalidRequestError(f"unknown role {message.role}", param="messages")
        text = "".join(part.text for part in message.content)
        calls = [Call(call.tool_call_id, guard(call.name), call.arguments_json) for call in message.tool_calls]
        made.append(
            Entry(
                role,
                own(text) if role == "assistant" else guard(text),
                index,
                calls,
                message.tool_call_id,
                guard(message.name),
                guard(message.reasoning),
            )
        )
    return made


def arrange(conversation: Sequence[Entry], spec: Format, quirks: Quirks, guard: Guard) -> list[Entry]:
    """The entries in the order and the roles in which the template takes them."""
    made = [replace(entry, calls=[replace(call) for call in entry.calls]) for entry in conversation]
    made = _place_systems(made, quirks)
    made = _order_results(made, spec.call_id or ("nine" if quirks.nine else ""))
    for entry in made:
        hidden = (quirks.drops_words and entry.text) or (quirks.one_call and len(entry.calls) > 1)
        if quirks.drops_calls or hidden:
            _write_calls(entry, spec, guard)
    made = _write_results(made, spec, quirks)
    return _join_users(made) if quirks.alternates else made


def as_message(entry: Entry, quirks: Quirks, guard: Guard) -> dict[str, Any]:
    """The message that the template sees. ``content`` is always a text."""
    made: dict[str, Any] = {"role": entry.role, "content": entry.text}
    if entry.calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments, quirks, guard)},
            }
            for call in entry.calls
        ]
    if entry.thought:
        # Under every name that templates know it by.
        made["reasoning_content"] = made["thinking"] = made["reasoning"] = entry.thought
    if entry.role == "tool":
        made["tool_call_id"] = entry.call_id
    if entry.name:
        made["name"] = entry.name
    return made


def ways(quirks: Quirks) -> Iterable[Quirks]:
    """How to try a conversation, one after the other until the template takes it: as probed, and ever plainer."""
    yield quirks
    yield replace(quirks, wraps_broken=True)
    yield replace(quirks, described=True)
    yield replace(quirks, wraps_broken=True, simplified=True)
    plain = replace(quirks, wraps_broken=True, alternates=True, system_first=True, drops_results=True)
    yield plain
    yield replace(plain, drops_calls=True)
    plainest = replace(plain, drops_calls=True, drops_system=True)
    yield plainest
    yield replace(plainest, simplified=True)


def _sparing(guard: Guard, markers: Sequence[str]) -> Guard:
    """A guard that lets markers through: templates split what the assistant said at its thoughts' markers."""
    if not markers:
        return guard
    pattern = re.compile("|".join(map(re.escape, sorted(markers, key=len, reverse=True))))

    def run(text: str) -> str:
        at, parts = 0, []
        for found in pattern.finditer(text):
            parts += [guard(text[at : found.start()]), found[0]]
            at = found.end()
        return "".join([*parts, guard(text[at:])])

    return run


def _place_systems(made: list[Entry], quirks: Quirks) -> list[Entry]:
    """One system message, at the head, where the template takes no others."""
    count = next((at for at, entry in enumerate(made) if entry.role != "system"), len(made))
    head, rest = made[:count], made[count:]
    if len(head) > 1:
        head = [replace(head[-1], text=_BREAK.join(entry.text for entry in head if entry.text))]
    if quirks.system_first or quirks.drops_system:
        rest = [replace(entry, role="user") if entry.role == "system" else entry for entry in rest]
    if head and quirks.drops_system:
        first = next((entry for entry in rest if entry.role == "user"), None)
        if first is None:
            head = [replace(head[0], role="user")]
        else:
            first.text = _BREAK.join(text for text in (head[0].text, first.text) if text)
            head = []
    return head + rest


def _order_results(made: list[Entry], pattern: str) -> list[Entry]:
    """Results in the order of the calls, each with its tool's name, under identifiers as the format wants them."""
    out: list[Entry] = []
    asked: dict[str, tuple[int, Call]] = {}
    count, at = 0, 0
    while at < len(made):
        entry = made[at]
        if entry.calls:
            asked = {}
            for place, call in enumerate(entry.calls):
                asked[call.id] = (place, call)
                call.id = _identifier(call, pattern, count)
                count += 1
        if entry.role != "tool":
            out.append(entry)
            at += 1
            continue
        results: list[tuple[int, Entry]] = []
        while at < len(made) and made[at].role == "tool":
            place, known = asked.get(made[at].call_id, (len(asked), None))
            if known is not None:
                made[at].call_id, made[at].name = known.id, made[at].name or known.name
            else:
                made[at].call_id = _identifier(Call(made[at].call_id, made[at].name, ""), pattern, count)
            results.append((place, made[at]))
            at += 1
        out += [one for _, one in sorted(results, key=lambda each: each[0])]
    return out


def _identifier(call: Call, pattern: str, count: int) -> str:
    if pattern == "nine":
        if re.fullmatch("[A-Za-z0-9]{9}", call.id):
            return call.id
        number = int.from_bytes(hashlib.blake2b(call.id.encode(), digest_size=8).digest())
        return "".join(_LETTERS[number // 62**place % 62] for place in range(9))
    if pattern == "numbered":
        name = re.escape(call.name)
        return call.id if re.fullmatch(rf"functions\.{name}:[0-9]+", call.id) else f"functions.{call.name}:{count}"
    return call.id


def _write_calls(entry: Entry, spec: Format, guard: Guard) -> None:
    """Writes calls as the model would have, behind what the assistant said."""
    if not entry.calls:
        return
    calls = [(call.name, json.dumps(_object(call.arguments, guard), ensure_ascii=False)) for call in entry.calls]
    written = write_calls(spec, calls)
    entry.text = "\n".join(text for text in (entry.text.rstrip(), written) if text)
    entry.calls = []


def _write_results(made: list[Entry], spec: Format, quirks: Quirks) -> list[Entry]:
    """Where results do not show, the user tells them."""
    out: list[Entry] = []
    called: set[str] = set()
    for entry in made:
        called |= {call.id for call in entry.calls}
        shows = not quirks.drops_results and not (quirks.drops_strays and entry.call_id not in called)
        if entry.role != "tool" or shows:
            out.append(entry)
            continue
        known = {"result": entry.text, "name": entry.name, "id": entry.call_id}
        shape = spec.wire.result if spec.wire.result != "{result}" else "<tool_response>\n{result}\n</tool_response>"
        text = re.sub(r"\{(result|name|id)\}", lambda found, known=known: known[found[1]], shape)  # type: ignore[misc]
        if out and out[-1].role == "user" and out[-1].call_id:
            out[-1].text += "\n" + text
        else:
            out.append(replace(entry, role="user", text=text, name="", call_id=entry.call_id or "-"))
    return out


def _join_users(made: list[Entry]) -> list[Entry]:
    out: list[Entry] = []
    for entry in made:
        if out and entry.role == out[-1].role and entry.role in ("user", "system"):
            out[-1] = replace(out[-1], text=_BREAK.join(text for text in (out[-1].text, entry.text) if text))
        else:
            out.append(entry)
    return out


def _arguments(text: str, quirks: Quirks, guard: Guard) -> Any:
    value = _read(text, guard)
    if not isinstance(value, dict):
        if not quirks.wraps_broken:
            return guard(text)
        value = {"arguments": guard(text)}
    return json.dumps(value, ensure_ascii=False) if quirks.text_arguments else value


def _object(text: str, guard: Guard) -> dict[str, Any]:
    value = _read(text, guard)
    return value if isinstance(value, dict) else {"arguments": guard(text)}


def _read(text: str, guard: Guard) -> Any:
    """Arguments as a value, texts in it guarded; None for what is no JSON."""
    try:
        return guarded(json.loads(text.strip() or "{}"), guard)
    except (ValueError, RecursionError):
        return None


def guarded(tree: Any, guard: Guard) -> Any:
    """The same tree, every text in it guarded, keys included. Raises RecursionError for one that is too deep."""
    if isinstance(tree, str):
        return guard(tree)
    if isinstance(tree, dict):
        return {guard(key): guarded(value, guard) for key, value in tree.items()}
    if isinstance(tree, list):
        return [guarded(value, guard) for value in tree]
    return tree
