"""Training against the clock, in pieces: constant learning rate for as long as one likes, then a decay to nothing."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from .batches import Batch, stream
from .copying import copy_batch
from .model import Model, build, load_weights
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
    tokens: int = 8192
    threads: int = 2
    seed: int = 0
    easy: float = 0.0
    muon: bool = True
    average: float = 0.995
    report: int = 25
    copy_every: int = 10
    save_every: int = 50
    score_every: int = 150


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
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(batch.ids, batch.positions, batch.mask.bfloat16())
        wanted = batch.turn[:, 1:] > 0
        logits = model.lm_head(hidden[:, :-1][wanted])
    target = batch.ids[:, 1:][wanted]
    return F.cross_entropy(logits.float(), target), (logits.argmax(-1) == target).float().mean().item()


def train(plan: Plan) -> None:
    """Train for `plan.minutes`, going on from the checkpoint if there is one; write it now and then and at the end.

    SIGINT and SIGTERM end it after the step in hand, with the checkpoint written.
    """
    torch.set_num_threads(plan.threads)
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
        print(f"go on from step {step}", flush=True)
    else:
        if plan.start:
            load_weights(model, load_file(plan.start))
        average = {k: v.clone() for k, v in model.state_dict().items()}
    tests = held_rows(tokenizer, 70)
    judge = build(circuit=False)

    def save() -> None:
        new = plan.checkpoint.with_suffix(".new")
        state = {
            "model": model.state_dict(),
            "average": average,
            "optimisers": [o.state_dict() for o in opts],
            "step": step,
            "seen": seen,
        }
        torch.save(state, new)
        new.replace(plan.checkpoint)

    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    begin, first, losses, rights, copied, since = time.monotonic(), step, 0.0, 0.0, 0.0, seen
    for batch in stream(tokenizer, plan.seed + step, plan.tokens, plan.easy):
        left = plan.minutes - (time.monotonic() - begin) / 60
        if left <= 0 or stopping:
            break
        rate = plan.lr * min(1.0, (step - first + 1) / 40, left / plan.decay if plan.decay else 1.0)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = rate
        loss, hits = _loss(model, batch)
        loss.backward()
        if step % plan.copy_every == 0:
            exercise, copied = _loss(model, copy_batch(plan.seed + step, plan.tokens // 2, model.shape.vocabulary))
            exercise.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        step, seen = step + 1, seen + batch.ids.numel()
        weight = min(plan.average, (step - first) / (step - first + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - weight)
        losses += loss.item()
        rights += hits
        if step % plan.report == 0:
            speed = (seen - since) / (time.monotonic() - begin)
            print(
                f"{step} {seen / 1e6:.2f}M tokens {speed:.0f}/s rate {rate:.1e} loss {losses / plan.report:.4f} "
                f"tokens right {rights / plan.report:.4f} copied {copied:.3f} {left:.0f} min left",
                flush=True,
            )
            losses = rights = 0.0
        if step % plan.save_every == 0:
            save()
        if step % plan.score_every == 0:
            judge.load_state_dict(average)
            print(f"   held out: {shown(score(judge, tests))}", flush=True)
    save()
    if stopping:
        return
    judge.load_state_dict(average)
    print(f"done at step {step}. held out: {shown(score(judge, tests))}", flush=True)
