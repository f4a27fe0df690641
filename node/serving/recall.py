"""What the head remembers of turns that it generated, so that they stand in a later prompt as they were.

Clients send a conversation back in their own words: arguments written anew (`1.0` becomes `1`), thoughts left out. And
many templates write an old turn unlike the prompt that it followed: without what the prompt had opened, without the
thought. Where a conversation comes back with the same meaning up to and including a turn that was generated here, that
turn's own token ids stand in the prompt, between what stood before and behind them: what the model saw then is a
prefix of what it sees now. A turn that is not known, or no longer, is the template's; nothing else depends on it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tandem.v1 import generation_pb2 as pb

MOST_TOKENS: Final = 4_000_000
"""Token ids kept for one served name: 16 MB."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A generated turn: what its prompt ended in behind the last message, and its token ids, end of turn excluded."""

    opened: str
    ids: Sequence[int]


class Recall:
    """The turns generated last, by the conversation that they end. Used from several threads.

    Args:
        most_tokens: how many ids are kept; the turns not used for longest go first.
    """

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self._most = most_tokens
        self._turns: OrderedDict[bytes, Turn] = OrderedDict()
        self._tokens = 0
        self._lock = threading.Lock()

    def statistics(self) -> dict[str, int]:
        """How many turns and ids are kept."""
        with self._lock:
            return {"turns": len(self._turns), "tokens": self._tokens}

    def find(self, messages: Iterable[pb.ChatMessage]) -> dict[int, Turn]:
        """The turns among the assistant's messages that are known, by their index."""
        digest = hashlib.blake2b(digest_size=16)
        found: dict[int, Turn] = {}
        with self._lock:
            if not self._turns:
                return found
            for index, message in enumerate(messages):
                digest.update(_meaning(message))
                if message.role == pb.ROLE_ASSISTANT and (turn := self._turns.get(digest.digest())) is not None:
                    self._turns.move_to_end(digest.digest())
                    found[index] = turn
        return found

    def keep(self, messages: Iterable[pb.ChatMessage], turn: Turn) -> None:
        """Remembers the turn that the last of the messages is."""
        digest = hashlib.blake2b(digest_size=16)
        for message in messages:
            digest.update(_meaning(message))
        key = digest.digest()
        with self._lock:
            if (before := self._turns.pop(key, None)) is not None:
                self._tokens -= len(before.ids)
            self._turns[key] = turn
            self._tokens += len(turn.ids)
            while self._tokens > self._most and self._turns:
                _, oldest = self._turns.popitem(last=False)
                self._tokens -= len(oldest.ids)


class Listener:
    """Follows one generation's events and remembers its turn when it ends as a turn should.

    Args:
        recall: where to.
        request: whose conversation the turn goes on.
        opened: what the prompt ended in behind its last message; None where that is not known.
        stop_ids: end-of-turn tokens, which are the template's to write.
    """

    def __init__(
        self, recall: Recall, request: pb.GenerateRequest, opened: str | None, stop_ids: Collection[int]
    ) -> None:
        self._recall = recall
        self._messages = list(request.conversation.messages)
        self._opened = opened
        self._stop_ids = stop_ids
        self._ids = array("I")
        self._text: list[str] = []
        self._calls: list[pb.ToolCall] = []

    def take(self, events: Iterable[pb.GenerationEvent]) -> None:
        """Takes events in order."""
        if self._opened is None:
            return
        for event in events:
            self._ids.extend(event.token_ids)
            match event.WhichOneof("event"):
                case "content":
                    self._text.append(event.content)
                case "tool_call_end":
                    self._calls.append(event.tool_call_end.tool_call)
                case "finished":
                    self._finish(event.finished)

    def _finish(self, finished: pb.Finished) -> None:
        whole = finished.reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_TOOL_CALLS) and not finished.stop
        if not whole or self._opened is None:
            return
        while self._ids and self._ids[-1] in self._stop_ids:
            self._ids.pop()
        made = pb.ChatMessage(role=pb.ROLE_ASSISTANT, tool_calls=self._calls)
        made.content.add(text="".join(self._text))
        self._recall.keep([*self._messages, made], Turn(self._opened, self._ids))


def _meaning(message: pb.ChatMessage) -> bytes:
    """What two spellings of one message share: identifiers, thoughts and the layout of arguments are no part of it."""
    text = "".join(part.text for part in message.content).strip()
    calls = [[call.name, _value(call.arguments_json)] for call in message.tool_calls]
    return json.dumps([message.role, text, calls], sort_keys=True).encode() + b"\n"


def _value(arguments: str) -> Any:
    try:
        return _numbers(json.loads(arguments or "{}"))
    except (ValueError, RecursionError):
        return arguments


def _numbers(value: Any) -> Any:
    """Numbers that are equal look equal: 1.0 is 1."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return value
