"""``POST /v1/completions``."""

from __future__ import annotations

import time

from aiohttp import web

from gateway.generation import Answer
from gateway.handlers.answering import CLUSTER, LIMITS, make_id, plain_answer, read_request, stream_answer
from gateway.openai.chunks import AnswerHead, StreamWriter
from gateway.openai.completion_request import CompletionRequest, read_completion_request
from gateway.openai.text_answer import TextAnswer
from gateway.openai.text_stream import TextStream


async def completions(request: web.Request) -> web.StreamResponse:
    """Continues text, in one piece or as a stream."""
    most = request.app[LIMITS].choices
    wanted = await read_request(request, lambda body: read_completion_request(body, most))
    head = AnswerHead(make_id("cmpl"), int(time.time()), wanted.model)
    answer = Answer(request.app[CLUSTER], wanted.model, wanted.requests(head.completion_id, head.created))
    if not wanted.streaming.wanted:
        collected = TextAnswer(wanted)
        return await plain_answer(request, answer, head, collected.feed, collected.to_json)
    return await stream_answer(request, answer, lambda fingerprint: _writer(wanted, head.with_fingerprint(fingerprint)))


def _writer(wanted: CompletionRequest, head: AnswerHead) -> StreamWriter:
    return TextStream(
        head,
        [wanted.echo_of(number) for number in range(len(wanted.prompts) * wanted.best_of)],
        wanted.choices,
        include_usage=wanted.streaming.include_usage,
        top_logprobs=wanted.top_logprobs,
    )
