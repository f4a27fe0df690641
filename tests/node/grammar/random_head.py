"""A real head over a real ring in this process, of a tiny model with random weights: unconstrained it writes noise.

The logits are a little wider than the vocabulary, as in most checkpoints.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models import llama
from running_paths import DEMO
from transformers import AutoTokenizer

from node.engine.cutting import CutPlan, ModelStage
from node.engine.head import HeadShard
from node.engine.shard import Shard
from node.engine.worker import Worker
from node.links.base import Pipe
from node.links.link import IncomingLink
from node.links.memory import MemoryListener
from node.serving.head import PipelineHead
from node.serving.model import HeadModel
from node.serving.relay import Relay
from node.serving.ticket import Limits
from parsers import FORMATS, get_format
from tandem.v1 import generation_pb2 as pb
from tandem.v1 import membership_pb2, pipeline_pb2

CONTEXT = 8192
PADDING = 16
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ opened or '' }}{% endif %}"
)


@dataclass
class Said:
    """What one generation gave."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    reason: str = ""

    def add(self, event: pb.GenerationEvent) -> None:
        self.tokens += event.token_ids
        match event.WhichOneof("event"):
            case "accepted":
                self.accepted += event.accepted.warnings
            case "content":
                self.content += event.content
            case "reasoning":
                self.reasoning += event.reasoning
            case "tool_call_end":
                self.calls.append((event.tool_call_end.tool_call.name, event.tool_call_end.tool_call.arguments_json))
                if event.tool_call_end.warning:
                    self.warnings.append(event.tool_call_end.warning)
            case "finished":
                self.reason = pb.FinishReason.Name(event.finished.reason).removeprefix("FINISH_REASON_").lower()
            case "failed":
                raise AssertionError(f"{event.failed.code}: {event.failed.message}")


class RandomHead:
    """A head that serves each format under the format's key."""

    def __init__(self, head: PipelineHead) -> None:
        self.head = head
        self._ids = itertools.count()

    async def say(self, model: str, **fields: Any) -> Said:
        """One generation at temperature 1.5."""
        said = Said()
        async with asyncio.timeout(120):
            async for events in self.head.generate(self.request(model, **fields)):
                for event in events:
                    said.add(event)
        return said

    def request(self, model: str, **fields: Any) -> pb.GenerateRequest:
        number = next(self._ids)
        sampling = {"temperature": 1.5, "seed": fields.pop("seed", number), **fields.pop("sampling", {})}
        opened = fields.pop("opened", "")
        choice = fields.pop("choice", "")
        if isinstance(choice, str):
            choice = {"mode": f"TOOL_CHOICE_MODE_{choice.upper()}"} if choice else {}
        return pb.GenerateRequest(
            generation_id=f"{number:032x}",
            model=model,
            conversation=pb.Conversation(
                messages=[pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text="What now?")])]
            ),
            tools=fields.pop("tools", []),
            tool_choice=pb.ToolChoice(**choice),
            sampling=pb.SamplingParams(**sampling),
            max_tokens=fields.pop("max_tokens", 400),
            template_kwargs_json=json.dumps({"opened": opened}) if opened else "",
            **fields,
        )


def tool(name: str, schema: Any = None, **fields: Any) -> pb.Tool:
    return pb.Tool(name=name, parameters_json="" if schema is None else json.dumps(schema), **fields)


def make_folder(folder: Path, markers: Sequence[str] = ()) -> Path:
    """The demo model's tokenizer, with further markers as single tokens."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    tokenizer.add_tokens([marker for marker in markers if marker not in tokenizer.get_vocab()])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = json.loads((DEMO / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"eos_token_id": config["eos_token_id"]}))
    return folder


def model_of(vocabulary: int, hidden: int, layers: int) -> llama.Model:
    mx.random.seed(5)
    model = llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=2 * hidden,
            num_attention_heads=2,
            num_key_value_heads=1,
            rms_norm_eps=1e-5,
            vocab_size=vocabulary,
            tie_word_embeddings=False,
        )
    )
    model.update(tree_map(lambda p: p + 0.2 * mx.random.normal(p.shape), model.parameters()))
    mx.eval(model.parameters())
    return model


def make_shard(index: int, stages: int, vocabulary: int, hidden: int, layers: int) -> Shard:
    model = model_of(vocabulary, hidden, layers)
    plan = CutPlan(model)
    cuts = [round(i * layers / stages) for i in range(stages + 1)]
    stage = ModelStage(model, plan, cuts[index], cuts[index + 1], tail=stages == 1)
    budget: dict[str, int] = {"kv_bytes_per_token": 1, "kv_budget_bytes": 1 << 20}
    if index:
        return Shard(stage, **budget)
    epilogue = None if stages == 1 else ModelStage(model, plan, plan.n_calls, plan.n_calls, tail=True)
    return HeadShard(stage, epilogue, **budget)


@asynccontextmanager
async def random_head(
    folder: Path,
    formats: Sequence[str] = (),
    *,
    stages: int = 1,
    hidden: int = 32,
    layers: int = 3,
    template: bool = False,
) -> AsyncIterator[RandomHead]:
    """A head that is ready. ``template`` where the folder has none."""
    names = [
        membership_pb2.ServedName(name=key, tool_format=key, chat_template=TEMPLATE if template else "")
        for key in formats or sorted(FORMATS)
    ]
    pipeline = membership_pb2.Pipeline(
        pipeline_id="local",
        served_names=names,
        stages=[membership_pb2.Stage(node_ids=[f"node {index}"]) for index in range(stages)],
        state=membership_pb2.PIPELINE_STATE_LOADING,
    )
    model = HeadModel(folder, names, CONTEXT)
    vocabulary = len(model.tokenizer) + PADDING
    workers = [Worker(f"mlx {index}") for index in range(stages)]
    shards = [
        await worker.run(partial(make_shard, index, stages, vocabulary, hidden, layers))
        for index, worker in enumerate(workers)
    ]
    shard = shards[0]
    assert isinstance(shard, HeadShard)
    hello = pipeline_pb2.LinkHello(pipeline_id="local", node_id="node 0", incarnation=1, plan_digest="same")
    listeners: list[MemoryListener] = []

    async def accept_head(pipe: Pipe) -> None:
        link, theirs = await IncomingLink.accept(pipe, lambda hello: False)
        await head.accept_closing(theirs, link)

    async def accept_relay(relay: Relay, pipe: Pipe) -> None:
        link, theirs = await IncomingLink.accept(pipe, lambda hello: True)
        await relay.serve(link, theirs.epoch)

    async def dial(node_id: str) -> Pipe:
        return await listeners[-1].dial()

    async def ensure(epoch: int) -> None:
        return None

    listeners.append(MemoryListener(accept_head))
    for index in range(stages - 1, 0, -1):
        relay = Relay(workers[index], shards[index], hello, listeners[-1].dial, f"stage {index + 1}")
        listeners.append(MemoryListener(partial(accept_relay, relay)))
    head = PipelineHead(
        pipeline, "same", hello, model, workers[0], shard, Limits(kv_tokens=1 << 20), dial, str, ensure, lambda: None
    )
    running = asyncio.create_task(head.run())
    try:
        async with asyncio.timeout(30):
            while head.statistics() is None:
                await asyncio.sleep(0.01)
        yield RandomHead(head)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for listener in listeners:
            await listener.close()
        for worker in workers:
            await asyncio.to_thread(worker.stop)


_ATOM = re.compile(
    r"<[|｜][^<>|｜]*[|｜]>|<\|[^<>|]*>|<[^<>|/]*\|>|</?[A-Za-z_:|]+>|\[/?[A-Z_]+\]|\]<\]minimax\[>\[|｜DSML｜|functools|>>>"
)


@cache
def all_markers() -> tuple[str, ...]:
    """What the vocabularies of the formats' models have tokens for: their markers, or the parts of longer ones."""
    texts: set[str] = set()
    for key in FORMATS:
        spec = get_format(key)
        for wire in (spec.wire, *spec.wire.also):
            texts |= {*spec.markers, *spec.ends, *spec.dropped, wire.opening, wire.closing, wire.quote}
            texts |= {wire.head, wire.middle, wire.tail, *wire.parameter}
    return tuple(sorted({atom for text in texts for atom in _ATOM.findall(text)}))
