"""Training against the clock, in pieces: constant learning rate for as long as one likes, then a decay to nothing.

Each worker is a process with one thread, its own stream of documents and a copy of the model; gradients are averaged
after every step. On a CPU that is about twice as fast as one process with as many threads.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, multiprocessing

from .batches import Batch, stream
from .copying import copy_batch
from .growing import grow
from .model import Model, build, load_weights, mixed_precision
from .optimiser import optimisers
from .score import held_rows, score, shown


@dataclass
class Plan:
    """What `train` is asked for. `decay` minutes at the end bring the learning rate to nothing."""

    checkpoint: Path
    tokenizer: Path
    start: Path | None = None
    minutes: float = 60.0
    decay: float = 0.0
    lr: float = 1e-3
    tokens: int = 4096
    workers: int = 2
    seed: int = 0
    easy: float = 0.0
    plain: float = 0.0
    muon: bool = True
    average: float = 0.995
    report: int = 25
    copy_every: int = 30
    save_every: int = 100
    score_every: int = 250


def load_model(path: Path) -> Model:
    """A model from a checkpoint (its averaged weights) or from an exported `model.safetensors`."""
    model = build(circuit=False)
    if path.suffix == ".safetensors":
        load_weights(model, load_file(path))
    else:
        load_weights(model, torch.load(path, weights_only=True)["average"])
    return model


def _loss(model: Model, batch: Batch) -> tuple[Tensor, float]:
    """Mean cross-entropy of what the model has to say, and the share of those tokens that it would say."""
    with mixed_precision():
        hidden = model.model(batch.ids, batch.positions, batch.parts, batch.wanted)
        logits = model.lm_head(hidden)
    target = batch.ids[batch.wanted + 1]
    return F.cross_entropy(logits.float(), target), (logits.argmax(-1) == target).float().mean().item()


def _begin(model: Model, tokenizer: Tokenizer, tensors: dict[str, Tensor]) -> None:
    """Take weights to begin from; those with fewer heads grow."""
    if len(tensors["model.layers.0.self_attn.q_proj.bias"]) == model.shape.heads * model.shape.head_dim:
        load_weights(model, tensors)
    else:
        batch = next(stream(tokenizer, 5, 16_000))
        grow(model, tensors, batch.ids, batch.positions, batch.parts)


def _averaged(numbers: Iterable[float]) -> list[float]:
    """The mean over all workers of each number."""
    together = torch.tensor(list(numbers), dtype=torch.float64)
    dist.all_reduce(together)
    return (together / dist.get_world_size()).tolist()


def train(plan: Plan) -> None:
    """Train for `plan.minutes`, going on from the checkpoint if there is one; write it now and then and at the end.

    SIGINT and SIGTERM end it after the step in hand, with the checkpoint written.
    """
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29411")
    # fresh pages cost more than the arithmetic on them: let the allocator keep what it has
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 32))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 34))
    os.environ.setdefault("MALLOC_TOP_PAD_", str(1 << 28))
    # a kernel is made for each shape, which takes longer than its use: keep many (30,000 of them filled 13 GB)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "6000")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(rank, plan)) for rank in range(plan.workers)]
    for worker in workers:
        worker.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: [os.kill(w.pid, signal.SIGTERM) for w in workers if w.pid])
    for worker in workers:
        worker.join()
    if failed := [w.exitcode for w in workers if w.exitcode]:
        raise RuntimeError(f"workers ended with {failed}")


def _work(rank: int, plan: Plan) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda got, _frame: stopping.append(got))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=plan.workers)
    tokenizer = Tokenizer.from_file(str(plan.tokenizer))
    model = build(seed=plan.seed)
    opts = optimisers(model, plan.lr, plan.muon)
    step = seen = 0
    if plan.checkpoint.exists():
        state = torch.load(plan.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average = state["average"]
        for opt, saved in zip(opts, state["optimisers"], strict=True):
            opt.load_state_dict(saved)
        step, seen = state["step"], state["seen"]
    else:
        if plan.start:
            _begin(model, tokenizer, load_file(plan.start))
        average = {k: v.clone() for k, v in model.state_dict().items()}
    say = (lambda text: print(text, flush=True)) if rank == 0 else (lambda text: None)
    say(f"from step {step}")
    tests = held_rows(tokenizer, 50) if rank == 0 else []
    judge = build(circuit=False)

    def save() -> None:
        new = plan.checkpoint.with_suffix(".new")
        kept = {"model": model.state_dict(), "average": average, "optimisers": [o.state_dict() for o in opts]}
        torch.save({**kept, "step": step, "seen": seen}, new)
        new.replace(plan.checkpoint)

    begin, first, since, sums = time.monotonic(), step, seen, [0.0, 0.0]
    copied = 0.0
    for batch in stream(tokenizer, plan.seed + 1000 * step + rank, plan.tokens, plan.easy, plan.plain):
        left, stop = _averaged((plan.minutes - (time.monotonic() - begin) / 60, bool(stopping)))
        if left <= 0 or stop:
            break
        rate = plan.lr * min(1.0, (step - first + 1) / 40, left / plan.decay if plan.decay else 1.0)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = rate
        loss, hits = _loss(model, batch)
        loss.backward()
        if step % plan.copy_every == 0:
            exercise, copied = _loss(
                model, copy_batch(plan.seed + step + rank, plan.tokens // 2, model.shape.vocabulary)
            )
            exercise.backward()
        flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        dist.all_reduce(flat)
        at = 0
        for p in model.parameters():
            if p.grad is not None:
                p.grad.copy_(flat[at : at + p.numel()].view_as(p)).div_(plan.workers)
                at += p.numel()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        step, seen = step + 1, seen + plan.workers * batch.ids.numel()
        weight = min(plan.average, (step - first) / (step - first + 10))
        if rank == 0:
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    average[name].lerp_(value, 1 - weight)
        sums = [sums[0] + loss.item(), sums[1] + hits]
        if step % plan.report == 0:
            speed = (seen - since) / (time.monotonic() - begin)
            say(
                f"{step} {seen / 1e6:.2f}M tokens {speed:.0f}/s rate {rate:.1e} loss {sums[0] / plan.report:.4f} "
                f"tokens right {sums[1] / plan.report:.4f} copied {copied:.3f} {left:.0f} min left"
            )
            sums = [0.0, 0.0]
        if rank == 0 and step % plan.save_every == 0:
            save()
        if rank == 0 and step % plan.score_every == 0:
            judge.load_state_dict(average)
            say(f"   held out: {shown(score(judge, tests))}")
    if rank == 0:
        save()
        judge.load_state_dict(average)
        say(f"done at step {step}. held out: {shown(score(judge, tests))}")
    dist.destroy_process_group()
