"""Requests of more bytes than gRPC takes by default, to a node as it is shipped: each gets an answer, or a reason.

A request that cannot fit the model's context is refused by its size, with the figures.
"""

from __future__ import annotations

import json
import os

import grpc
import pytest
import requests
from running_cluster import ROOT, Cluster

from tandem.v1 import generation_pb2 as pb
from tandem.v1 import membership_pb2, model_pb2, types_pb2
from tandem.v1.generation_pb2_grpc import GenerationServiceStub
from tandem.v1.membership_pb2_grpc import MembershipServiceStub
from tandem.v1.model_pb2_grpc import ModelServiceStub

SIZE = 5 * 1024 * 1024
CONTEXT = json.loads((ROOT / "node" / "demo" / "config.json").read_text())["max_position_embeddings"]
OVERFLOW = f"maximum context length is {CONTEXT} tokens. However, the request has more than "
WORDS = "word " * (SIZE // 5 + 1)


def user(text: str) -> pb.Conversation:
    return pb.Conversation(messages=[pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text=text)])])


def large(kind: str) -> pb.GenerateRequest:
    """A request of more than 5 MiB, by what makes it so large."""
    request = pb.GenerateRequest(model="tandem-demo-qwen", max_tokens=4)
    match kind:
        case "messages":
            request.conversation.CopyFrom(user(WORDS))
        case "tools":
            request.conversation.CopyFrom(user("Hello!"))
            schema = {"type": "object", "properties": {"city": {"type": "string", "description": WORDS}}}
            request.tools.add(name="get_weather", parameters_json=json.dumps(schema))
        case "text":
            request.text = WORDS
        case "token_ids":
            request.token_ids.ids.extend([200] * (SIZE // 2 + 1))
    assert request.ByteSize() > SIZE
    return request


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("messages", OVERFLOW),
        ("tools", "the tools' schemas have more than 2097152 characters"),
        ("text", OVERFLOW),
        ("token_ids", OVERFLOW),
    ],
)
def test_generate_and_count_tokens_say_what_is_too_much(demo: Cluster, kind: str, words: str) -> None:
    request = large(kind)
    with demo.channel() as channel:
        stub = GenerationServiceStub(channel)
        counted = pb.CountTokensRequest(request=request)
        for call, said in (
            (lambda: list(stub.Generate(request, timeout=60)), words),
            (lambda: stub.CountTokens(counted, timeout=60), OVERFLOW),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert isinstance(caught.value, grpc.Call)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert said in (caught.value.details() or "")
        small = pb.GenerateRequest(model="tandem-demo-qwen", text="Hello", max_tokens=2, ignore_eos=True)
        last = list(stub.Generate(small, timeout=60))[-1].events[-1]
    assert last.finished.completion_tokens == 2


def test_a_probe_comes_back_whole(demo: Cluster) -> None:
    payload = os.urandom(SIZE)
    with demo.channel(1) as channel:
        request = membership_pb2.ProbeLinkRequest(payload=payload)
        assert MembershipServiceStub(channel).ProbeLink(request, timeout=60).payload == payload


def test_a_plan_with_a_long_explanation_loads(demo: Cluster) -> None:
    """What is loaded already is answered at once, however much comes with the request."""
    plan = model_pb2.Plan(explanation=[WORDS])
    with demo.channel() as channel:
        request = model_pb2.LoadModelRequest(model=types_pb2.ModelRef(model_id="tandem-demo"), plan=plan)
        *_, last = ModelServiceStub(channel).LoadModel(request, timeout=60)
    assert last.ready.served_names[0].name == "tandem-demo-qwen"


def test_the_gateway_passes_the_refusal_on(demo: Cluster) -> None:
    body = {"model": "tandem-demo-qwen", "messages": [{"role": "user", "content": WORDS}], "max_tokens": 4}
    answer = requests.post(f"{demo.base}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert OVERFLOW in answer.json()["error"]["message"]
