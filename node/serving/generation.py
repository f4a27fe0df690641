"""One generation on the head: tokens in, numbered events out.

What comes out is a pure function of the prompt and the token ids: the parser, the stop strings and the decoder hold
the only state, so that another head could rebuild it by feeding the ids again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import parsers.events as ev
from node.engine.head import Sample
from node.serving.pieces import Vocabulary
from node.serving.stops import StopMatcher
from parsers import Parser
from tandem.errors import ContextOverflowError, InvalidRequestError, OverloadedError, TandemError
from tandem.v1 import generation_pb2 as pb

log = logging.getLogger(__name__)

_REASONS = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """How the answer of a request is to be read.

    ``single_call``: a second call in one turn is dropped with a warning. ``checks``: what is wrong with a tool's
    arguments, or "", for those that could not be held to what the request asks for. ``own_ids``: an identifier that the
    text carries is the call's, unless it is one of ``taken``, the conversation's earlier ones, or comes again.
    """

    stops: Sequence[str]
    stop_ids: frozenset[int]
    single_call: bool
    checks: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    own_ids: bool = False
    taken: frozenset[str] = frozenset()


class Generation:
    """The scheduler's client for one sequence, and the source of its events.

    Args:
        generation_id: tool-call ids derive from it.
        vocabulary: of the model.
        parser: None for plain text, in which no markup means anything.
        answer: stops and rules.
        prompt_tokens: size of the prompt.
    """

    def __init__(
        self,
        generation_id: str,
        vocabulary: Vocabulary,
        parser: Parser | None,
        answer: Answer,
        prompt_tokens: int,
    ) -> None:
        self._id = generation_id
        self._vocabulary = vocabulary
        self._decoder = vocabulary.decoder()
        self._parser = parser
        self._answer = answer
        self._stop = StopMatcher(answer.stops)
        self._prompt_tokens = prompt_tokens
        self._sequence = 0
        self._token_ids: list[int] = []
        self._logprobs: list[pb.TokenLogprobs] = []
        self._ready: list[pb.GenerationEvent] = []
        self._wake = asyncio.Event()
        self._over = False
        self._completion_tokens = 0
        self._reasoning_tokens = 0
        self._names: dict[int, tuple[str, str]] = {}

    async def events(self) -> AsyncGenerator[list[pb.GenerationEvent]]:
        """Events that became ready together, until the one that ends the generation."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            ready, self._ready = self._ready, []
            if ready:
                yield ready
            if self._over and not self._ready:
                return

    def accepted(self, pipeline_id: str, prompt: Sequence[int], warnings: Sequence[str] = ()) -> None:
        """The first event."""
        accepted = pb.Accepted(
            prompt_tokens=self._prompt_tokens,
            pipeline_id=pipeline_id,
            prompt=pb.TokenIds(ids=prompt),
            warnings=warnings,
        )
        self._emit(accepted=accepted)

    # -- the scheduler's client

    def on_prefill(self, processed: int) -> None:
        """Reports progress."""
        if not self._over:
            self._emit(prefill=pb.PrefillProgress(processed_tokens=processed))

    def on_sample(self, sample: Sample) -> bool:
        """Takes a token; False when a stop string ended the text with it."""
        if self._over:
            return False
        self._completion_tokens += 1
        self._token_ids.append(sample.token)
        if sample.logprobs is not None:
            self._logprobs.append(self._token_logprobs(sample))
        before = self._sequence
        ended = sample.token in self._answer.stop_ids
        if not ended:
            self._take(sample.token)
        elif self._parser is not None and self._parser.reads(text := self._vocabulary.text_of(sample.token)):
            self._parse(self._parser.feed(text, sample.token, single=True))
        if self._parser is not None and self._parser.in_reasoning:
            self._reasoning_tokens += 1
        if self._stop.matched is not None:
            self._finish("stop")
            return False
        if sample.last:
            self._finish("stop" if ended else "length")
        elif self._sequence == before:
            self._emit(held=pb.Held())
        return True

    def on_failure(self, error: TandemError) -> None:
        """Ends the generation in band."""
        if self._over:
            return
        self._over = True
        failed = pb.Failed(code=error.code, message=error.message)
        if isinstance(error, InvalidRequestError):
            failed.param = error.param or ""
        if isinstance(error, OverloadedError):
            failed.retry_after_seconds = error.retry_after
        self._emit(failed=failed)

    def cancelled(self) -> None:
        """Ends the generation in band: somebody else than its reader wanted that."""
        if self._over:
            return
        self._over = True
        self._emit(
            finished=pb.Finished(
                reason=pb.FINISH_REASON_CANCELLED,
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._completion_tokens,
                reasoning_tokens=self._reasoning_tokens,
            )
        )

    # -- tokens to events

    def _take(self, token: int) -> None:
        piece = self._decoder.feed(token)
        if piece is None:
            return
        if self._parser is None:
            self._content(piece.text)
        else:
            self._parse(self._parser.feed(piece.text, piece.token_id, piece.single))

    def _parse(self, parsed: Sequence[ev.Event]) -> None:
        for event in parsed:
            if self._stop.matched is not None:
                return
            match event:
                case ev.Content():
                    self._content(event.text)
                case ev.Reasoning():
                    self._emit(reasoning=event.text)
                case ev.CallStart():
                    self._call_start(event)
                case ev.ArgumentsDelta() if event.index in self._names:
                    delta = pb.ToolCallArguments(index=event.index, arguments_delta=event.text)
                    self._emit(tool_call_arguments=delta)
                case ev.CallEnd() if event.index in self._names:
                    self._call_end(event)
                case _:
                    pass

    def _content(self, text: str) -> None:
        out = self._stop.feed(text)
        if out:
            self._emit(content=out)

    def _call_start(self, event: ev.CallStart) -> None:
        if self._answer.single_call and event.index > 0:
            log.warning("generation %s: only one call is wanted, the one to %s is dropped", self._id, event.name)
            return
        held = self._stop.flush()
        if held:
            self._emit(content=held)
        call_id = self._call_id(event)
        self._names[event.index] = (call_id, event.name)
        self._emit(tool_call_start=pb.ToolCallStart(index=event.index, tool_call_id=call_id, name=event.name))

    def _call_id(self, event: ev.CallStart) -> str:
        """Clients find a call by it among all of a conversation, where models begin to count anew in each turn."""
        own, used = event.call_id, {call_id for call_id, _ in self._names.values()}
        if own and self._answer.own_ids and own not in self._answer.taken and own not in used:
            return own
        return call_id_for(self._id, event.index)

    def _call_end(self, event: ev.CallEnd) -> None:
        call_id, name = self._names[event.index]
        call = pb.ToolCall(tool_call_id=call_id, name=name, arguments_json=event.arguments)
        check = self._answer.checks.get(name)
        warning = event.warning or (check(event.arguments) if check is not None else "")
        end = pb.ToolCallEnd(index=event.index, tool_call=call, warning=warning)
        self._emit(tool_call_end=end)

    def _finish(self, reason: str) -> None:
        rest = self._decoder.finish()
        if self._stop.matched is None:
            if self._parser is not None:
                parsed = self._parser.feed(rest) if rest else []
                parsed = [*parsed, *self._parser.finish("length" if reason == "length" else "stop")]
                self._parse(parsed)
                if self._names and reason == "stop":
                    reason = "tool_calls"
            elif rest:
                self._content(rest)
        if self._stop.matched is None and (held := self._stop.flush()):
            self._emit(content=held)
        self._over = True
        finished = pb.Finished(
            reason=_REASONS[reason],
            stop=self._stop.matched or "",
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            reasoning_tokens=self._reasoning_tokens,
        )
        self._emit(finished=finished)

    def _emit(self, **what: object) -> None:
        event = pb.GenerationEvent(sequence=self._sequence, **what)  # type: ignore[arg-type]
        self._sequence += 1
        if self._token_ids:
            event.token_ids.extend(self._token_ids)
            self._token_ids.clear()
        if self._logprobs:
            event.logprobs.extend(self._logprobs)
            self._logprobs.clear()
        self._ready.append(event)
        self._wake.set()

    def _token_logprobs(self, sample: Sample) -> pb.TokenLogprobs:
        assert sample.logprobs is not None
        token_bytes = self._vocabulary.bytes_of
        best = list(sample.logprobs.top)
        if all(token != sample.token for token, _ in best):
            best.append((sample.token, sample.logprobs.logprob))
        top = [pb.TokenLogprob(token_id=token, token=token_bytes(token), logprob=logprob) for token, logprob in best]
        return pb.TokenLogprobs(logprob=sample.logprobs.logprob, top=top)


def call_id_for(generation_id: str, index: int) -> str:
    """The id of a call whose text carries none of use: the same for one generation and index, on whichever head."""
    return f"call_{generation_id.replace('-', '')[:24]}{index:02d}"


def check_context(prompt_tokens: int, max_tokens: int | None, context: int) -> int:
    """Tokens that may be sampled: as many as asked for, or what the context leaves.

    Raises:
        ContextOverflowError: the prompt alone, or with what was asked for, does not fit; says both figures.
    """
    room = context - prompt_tokens
    if room < 1 or (max_tokens is not None and max_tokens > room):
        asked = f" and {max_tokens} for the answer" if max_tokens is not None else ""
        raise ContextOverflowError(
            f"This model's maximum context length is {context} tokens. However, you requested {prompt_tokens} tokens "
            f"in the messages{asked}. Please reduce the length of the messages.",
            param="messages",
        )
    return room if max_tokens is None else max_tokens
