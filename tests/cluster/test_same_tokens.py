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
    if isinstance(prompt, list):
        prompt = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)
    parts = list(stream_generate(model, tokenizer, prompt, max_tokens=limit))
    out.append(["".join(part.text for part in parts), [part.token for part in parts]])
print(json.dumps(out))
"""


def plain(folder: Path, prompts: list[Any]) -> list[tuple[str, list[int]]]:
    """Text and token ids of mlx-lm's own generation, in a process of its own."""
    command = [sys.executable, "-c", PLAIN, str(folder), str(LIMIT)]
    done = subprocess.run(command, input=json.dumps(prompts), capture_output=True, text=True, check=True)
    return [(text, ids) for text, ids in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes and a gateway, no model loaded."""
    with running(tmp_path_factory.mktemp("three"), 3) as cluster:
        yield cluster


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_openai_clients_read_what_mlx_lm_says(three: Cluster, nodes: int) -> None:
    expected = [text for text, _ in plain(DEMO, CONVERSATIONS)]
    three.load("tandem-demo", nodes)
    try:
        with openai.OpenAI(base_url=f"{three.base}/v1", api_key="none", max_retries=0, timeout=60) as api:
            asked: dict[str, Any] = {"model": "tandem-demo-qwen", "temperature": 0, "max_tokens": LIMIT}
            for messages, text in zip(CONVERSATIONS, expected, strict=True):
                done = api.chat.completions.create(messages=messages, **asked)
                assert done.choices[0].message.content == text
                with api.chat.completions.create(messages=messages, stream=True, **asked) as stream:
                    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text
    finally:
        three.unload("tandem-demo")


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3", "deepseek_v3"])
def test_token_ids_of_random_models(three: Cluster, tmp_path: Path, architecture: str) -> None:
    """Noise in, noise out, but the same noise on any number of nodes."""
    folder = tmp_path / f"random-{architecture}"
    make = [sys.executable, str(ROOT / "scripts" / "make_model.py"), architecture, str(folder), "--seed", "7"]
    subprocess.run(make, check=True, capture_output=True)
    expected = [ids for _, ids in plain(folder, PROMPTS)]
    for nodes in (1, 2, 3):
        pipeline = three.load(str(folder), nodes)
        assert len(pipeline.stages) == nodes
        try:
            assert [token_ids(three, pipeline.served_names[0].name, prompt) for prompt in PROMPTS] == expected
        finally:
            three.unload(pipeline.pipeline_id)


def token_ids(cluster: Cluster, name: str, prompt: str) -> list[int]:
    """Every token id of a greedy completion."""
    request = pb.GenerateRequest(
        model=name, text=prompt, max_tokens=LIMIT, sampling=pb.SamplingParams(temperature=0, repetition_penalty=1)
    )
    with cluster.channel() as channel:
        ids = []
        for response in GenerationServiceStub(channel).Generate(request, timeout=60):
            ids += [token for event in response.events for token in event.token_ids]
            assert not any(event.HasField("failed") for event in response.events), response
    return ids
