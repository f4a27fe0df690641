"""What a cluster answers is what plain mlx-lm answers: same template, same tokens, on one, two and three nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from running_cluster import ROOT, Cluster, running

from tandem.v1 import generation_pb2 as pb
from tandem.v1.generation_pb2_grpc import GenerationServiceStub

DEMO = ROOT / "node" / "demo"
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "user", "content": "Tell me a story."}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Write quiet river to a/b.txt."}],
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLING = [{"role": "user", "content": "What is the weather in Paris?"}]
NAMES = ("qwen", "llama")
"""The embedded model is served as ``tandem-demo-`` and each of these, and has a template for each."""
PROMPTS = ["Once upon a time", "The weather in Paris is"]
LIMIT = 60
PLAIN = """
import json, sys
import mlx.core as mx
from mlx_lm import stream_generate
from mlx_lm.utils import load_model, load_tokenizer
from pathlib import Path
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
eos = json.loads((folder / "config.json").read_text()).get("eos_token_id")
model, _ = load_model(folder)
model.set_dtype(mx.float32)
tokenizer = load_tokenizer(folder, eos_token_ids=eos)
out = []
for prompt in json.load(sys.stdin):
    if isinstance(prompt, dict):
        prompt = tokenizer.apply_chat_template(**prompt, add_generation_prompt=True)
    parts = list(stream_generate(model, tokenizer, prompt, max_tokens=limit))
    out.append(["".join(part.text for part in parts), [part.token for part in parts]])
print(json.dumps(out))
"""


def plain(folder: Path, prompts: list[Any]) -> list[tuple[str, list[int]]]:
    """Text and token ids of mlx-lm's own generation, in a process of its own."""
    command = [sys.executable, "-c", PLAIN, str(folder), str(LIMIT)]
    done = subprocess.run(command, input=json.dumps(prompts), capture_output=True, text=True, check=True, timeout=120)
    return [(text, ids) for text, ids in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes and a gateway, no model loaded."""
    with running(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


def asked_plainly(name: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """What the template of a served name is given."""
    template = (DEMO / "templates" / f"{name}.jinja").read_text()
    return {"conversation": messages, "tools": tools or None, "chat_template": template}


@pytest.fixture(scope="module")
def expected() -> dict[str, list[tuple[str, list[int]]]]:
    """What mlx-lm says to each conversation, and at last to the one with a tool, for each served name."""
    turns = [*((messages, []) for messages in CONVERSATIONS), (CALLING, [WEATHER])]
    answers = plain(DEMO, [asked_plainly(name, *turn) for name in NAMES for turn in turns])
    return {name: answers[len(turns) * index :][: len(turns)] for index, name in enumerate(NAMES)}


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_the_embedded_model_says_what_mlx_lm_says(
    three: Cluster, expected: dict[str, list[tuple[str, list[int]]]], nodes: int
) -> None:
    """Every token id of every event, through both served names; and the text, as clients of OpenAI's SDK read it."""
    assert len({tuple(ids) for answers in expected.values() for _, ids in answers}) > len(CONVERSATIONS)
    pipeline = three.load("tandem-demo", nodes)
    try:
        assert len(pipeline.stages) == nodes
        for name, answers in expected.items():
            *spoken, (call, call_ids) = answers
            model = f"tandem-demo-{name}"
            for messages, (text, ids) in zip(CONVERSATIONS, spoken, strict=True):
                assert token_ids(three, model, conversation=conversation(messages)) == ids
                assert texts(three, model, messages) == [text, text]
            assert "get_weather" in call
            tool = pb.Tool(name="get_weather", description="Current weather of a city.")
            tool.parameters_json = json.dumps(WEATHER["function"]["parameters"])  # type: ignore[index]
            assert token_ids(three, model, conversation=conversation(CALLING), tools=[tool]) == call_ids
    finally:
        three.unload("tandem-demo")


def conversation(messages: list[dict[str, Any]]) -> pb.Conversation:
    roles = {"user": pb.ROLE_USER, "system": pb.ROLE_SYSTEM}
    return pb.Conversation(
        messages=[
            pb.ChatMessage(role=roles[each["role"]], content=[pb.ContentPart(text=each["content"])])
            for each in messages
        ]
    )


def texts(cluster: Cluster, model: str, messages: list[dict[str, Any]]) -> list[str | None]:
    """The answer that openai-python gets, whole and streamed."""
    asked: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0, "max_tokens": LIMIT}
    with openai.OpenAI(base_url=f"{cluster.base}/v1", api_key="none", max_retries=0, timeout=60) as api:
        done = api.chat.completions.create(**asked)
        with api.chat.completions.create(stream=True, **asked) as stream:
            parts = [chunk.choices[0].delta.content or "" for chunk in stream]
    return [done.choices[0].message.content, "".join(parts)]


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "deepseek_v3"])
def test_token_ids_of_random_models(three: Cluster, tmp_path: Path, architecture: str) -> None:
    """Noise in, noise out, but the same noise on any number of nodes."""
    folder = tmp_path / f"random-{architecture}"
    make = [sys.executable, str(ROOT / "scripts" / "make_model.py"), architecture, str(folder), "--seed", "7"]
    subprocess.run(make, check=True, capture_output=True, timeout=120)
    expected = [ids for _, ids in plain(folder, PROMPTS)]
    for nodes in (1, 2, 3):
        pipeline = three.load(str(folder), nodes)
        assert len(pipeline.stages) == nodes
        try:
            assert [token_ids(three, pipeline.served_names[0].name, text=prompt) for prompt in PROMPTS] == expected
        finally:
            three.unload(pipeline.pipeline_id)


def token_ids(cluster: Cluster, name: str, **prompt: Any) -> list[int]:
    """Every token id of a greedy answer."""
    sampling = pb.SamplingParams(temperature=0, repetition_penalty=1)
    request = pb.GenerateRequest(model=name, max_tokens=LIMIT, sampling=sampling, **prompt)
    with cluster.channel() as channel:
        ids = []
        for response in GenerationServiceStub(channel).Generate(request, timeout=60):
            ids += [token for event in response.events for token in event.token_ids]
            assert not any(event.HasField("failed") for event in response.events), response
    return ids
