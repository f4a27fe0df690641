"""``POST /v1/chat/completions``."""

from __future__ import annotations

import time

from aiohttp import web

from gateway.generation import Answer
from gateway.handlers.answering import CLUSTER, make_id, plain_answer, read_request, stream_answer
from gateway.openai.chat_answer import ChatAnswer
from gateway.openai.chat_request import ChatRequest, read_chat_request
from gateway.openai.chat_stream import ChatStream
from gateway.openai.chunks import AnswerHead, StreamWriter


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answers a conversation, in one piece or as a stream."""
    chat = await read_request(request, read_chat_request)
    head = AnswerHead(make_id("chatcmpl"), int(time.time()), chat.model)
    answer = Answer(request.app[CLUSTER], chat.model, chat.requests(head.completion_id, head.created))
    top_logprobs = chat.generate.sampling.top_logprobs if chat.logprobs else None
    if not chat.streaming.wanted:
        collected = ChatAnswer(
            chat.choices, top_logprobs=top_logprobs, legacy=chat.legacy_functions, custom=chat.custom_tools
        )
        return await plain_answer(request, answer, head, collected.feed, collected.to_json)
    return await stream_answer(
        request, answer, lambda fingerprint: _writer(chat, head.with_fingerprint(fingerprint), top_logprobs)
    )


def _writer(chat: ChatRequest, head: AnswerHead, top_logprobs: int | None) -> StreamWriter:
    return ChatStream(
        head,
        chat.choices,
        include_usage=chat.streaming.include_usage,
        top_logprobs=top_logprobs,
        legacy=chat.legacy_functions,
        custom=chat.custom_tools,
    )
