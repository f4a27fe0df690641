"""The streamed chat answer: one chunk for each delta, made of parts that were written when the stream began."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from gateway.openai.choice import Choice, Delta
from gateway.openai.chunks import DONE, AnswerHead, quote
from gateway.openai.logprobs import TokenReport, chat_logprobs
from gateway.openai.usage import Usage
from tandem.v1 import generation_pb2

KIND: Final = "chat.completion.chunk"


class ChatStream:
    """A ``StreamWriter`` for chat. The role comes once per choice; a call's id, type and name once per call."""

    def __init__(
        self,
        head: AnswerHead,
        choices: int,
        *,
        include_usage: bool = False,
        top_logprobs: int | None = None,
        legacy: bool = False,
        custom: frozenset[str] = frozenset(),
    ) -> None:
        self._head = head
        self._include_usage = include_usage
        self._with_logprobs = top_logprobs is not None
        self._legacy = legacy
        self._choices = [
            Choice(index, top_logprobs=top_logprobs, legacy=legacy, custom=custom) for index in range(choices)
        ]
        before, after = head.split(KIND, show_usage=include_usage)
        self._starts = [f'{before}[{{"index":{index},"delta":{{' for index in range(choices)]
        """Ends where the members of a delta begin."""
        self._contents = [f'{start}"content":' for start in self._starts]
        self._after = after
        self._tail = f'}},"finish_reason":null}}]{after}'

    def opening(self) -> str:
        """The first chunk of each choice, with its role."""
        return "".join(self._chunk(choice.index, '"role":"assistant","content":""') for choice in self._choices)

    def heartbeat(self) -> str:
        """An empty delta of a choice that has not ended."""
        for choice in self._choices:
            if choice.finished is None:
                return self._chunk(choice.index, "")
        return ""

    def feed(self, number: int, events: Sequence[generation_pb2.GenerationEvent]) -> str:
        """The chunks for some events of one choice."""
        choice = self._choices[number]
        chunks = []
        for event in events:
            delta = choice.read(event)
            if delta is None:
                continue
            if delta.kind == "content" and not self._with_logprobs:
                chunks.append(f"{self._contents[number]}{quote(delta.text)}{self._tail}")
            else:
                chunks.append(self._chunk_of(choice, delta))
        return "".join(chunks)

    def closing(self) -> str:
        """The token counts if asked for, and the end."""
        if not self._include_usage:
            return DONE
        usage = Usage()
        for choice in self._choices:
            if choice.finished is not None:
                usage.add(choice.finished, with_prompt=choice.index == 0)
        return self._head.event(KIND, "[]", usage, show_usage=True) + DONE

    def _chunk_of(self, choice: Choice, delta: Delta) -> str:
        members = self._members(delta)
        if not self._with_logprobs and delta.kind != "finish":
            return f"{self._starts[choice.index]}{members}{self._tail}"
        reason = quote(delta.text) if delta.kind == "finish" else "null"
        return self._chunk(choice.index, members, reason, choice.take_reports())

    def _chunk(self, index: int, members: str, reason: str = "null", reports: Sequence[TokenReport] = ()) -> str:
        logprobs = ""
        if self._with_logprobs:
            # OpenAI's description of chunks, unlike that of whole answers, does not let the refusal be null.
            shown = json.dumps({**chat_logprobs(reports), "refusal": []}) if reports else "null"
            logprobs = f',"logprobs":{shown}'
        return f'{self._starts[index]}{members}}}{logprobs},"finish_reason":{reason}}}]{self._after}'

    def _members(self, delta: Delta) -> str:
        text = quote(delta.text)
        match delta.kind:
            case "content":
                return f'"content":{text}'
            case "arguments" if delta.custom:
                return f'"tool_calls":[{{"index":{delta.call},"custom":{{"input":{text}}}}}]'
            case "arguments" if self._legacy:
                return f'"function_call":{{"arguments":{text}}}'
            case "arguments":
                return f'"tool_calls":[{{"index":{delta.call},"function":{{"arguments":{text}}}}}]'
            case "reasoning":
                return f'"reasoning_content":{text}'
            case "call" if delta.custom:
                return (
                    f'"tool_calls":[{{"index":{delta.call},"id":{quote(delta.call_id)},"type":"custom",'
                    f'"custom":{{"name":{text},"input":""}}}}]'
                )
            case "call" if self._legacy:
                return f'"function_call":{{"name":{text},"arguments":""}}'
            case "call":
                return (
                    f'"tool_calls":[{{"index":{delta.call},"id":{quote(delta.call_id)},"type":"function",'
                    f'"function":{{"name":{text},"arguments":""}}}}]'
                )
            case "finish":
                return ""
