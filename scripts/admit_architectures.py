"""Prove architectures fit to be cut, and write down which are: node/engine/admitted.json.

    scripts/admit_architectures.py              # all that there is a configuration for: a quarter of an hour
    scripts/admit_architectures.py llama gemma3 # these only; the others' entries stay

For a tiny random model of each, cut into 1, 2 and 3 stages with the epilogue on the first node, tensors through bytes
and every parameter that a node does not own NaN, the logits of all rows must be bit-identical to the whole model's:
for several prompt lengths, many decode steps, single sequences and batches. Then sequences of different lengths join
and leave a batch, with mlx-lm's own cache operations on both sides.

The file names the sources that were proven: whoever changes what cuts proves all again. Tests do so for some.
"""

from __future__ import annotations

import argparse
import copy
import gc
import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from node.engine.admission import ADMITTED_FILE
from node.engine.cutting import CutPlan, ModelStage, make_ghosts, parameters
from node.engine.tensors import to_array, to_tensors
from tandem.errors import UnsupportedModelError

ROOT = Path(__file__).resolve().parents[1]
TINY_MODELS = Path(__file__).with_name("tiny_models.json")
MORE_MODELS = ROOT / "tests" / "data" / "more_models.json"
STAGES, PROMPTS, DECODE_STEPS, BATCHES = (1, 2, 3), (1, 7, 64), 16, (1, 3)
_TOKENS = 200  # below every vocabulary

Cache = list[Any]
Forward = Callable[[mx.array, Cache], mx.array]


class NotProvenError(Exception):
    """The pieces and the whole model do not agree."""


class Whole:
    """The reference: a model as mlx-lm runs it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def new_cache(self) -> list[Cache]:
        """One list of caches."""
        return [make_prompt_cache(self.model)]

    def forward(self, tokens: mx.array, caches: list[Cache]) -> mx.array:
        """Logits of all rows."""
        returned = self.model(tokens, cache=caches[0])
        out: mx.array = returned[0] if isinstance(returned, tuple) else returned
        mx.eval(out, [cache.state for cache in caches[0]])
        return out


class Ring:
    """The same model cut into stages, one node each, the epilogue on the first."""

    def __init__(self, make: Callable[[], Any], weights: Any, plan: CutPlan, cuts: Sequence[int]) -> None:
        segments = plan.segments(list(pairwise(cuts)))
        nodes = [make() for _ in cuts[1:]]
        places = [node for node, _, _ in segments] + [0]
        n = plan.n_calls
        self.stages = [ModelStage(nodes[node], plan, first, end, tail=False) for node, first, end in segments]
        self.stages.append(ModelStage(nodes[0], plan, n, n, tail=True))
        for i, node in enumerate(nodes):
            needed = set().union(*(s.needed() for s, place in zip(self.stages, places, strict=True) if place == i))
            node.update(weights)
            make_ghosts(node, needed, fill=float("nan"))
            if {name for name, value in parameters(node).items() if mx.any(mx.isnan(value)).item()} & needed:
                raise NotProvenError("the weights themselves hold NaN")

    def new_cache(self) -> list[Cache]:
        """One list of caches per stage."""
        return [stage.make_cache() for stage in self.stages]

    def forward(self, tokens: mx.array, caches: list[Cache]) -> mx.array:
        """Logits of all rows; only the head sees the tokens."""
        wire: list[mx.array | None] = []
        for stage, cache in zip(self.stages, caches, strict=True):
            seen = tokens if stage.first == 0 else mx.zeros(tokens.shape, mx.int32)
            out = stage(seen, wire, cache)
            mx.eval([array for array in out if array is not None], [entry.state for entry in cache])
            if stage.tail:
                logits = out[0]
                assert logits is not None
                return logits
            wire = [to_array(tensor) for tensor in to_tensors(out)]
        raise AssertionError("a ring ends with its epilogue")


Runner = Whole | Ring


def steps(batch: int, prompt: int, seed: int) -> list[mx.array]:
    """A prompt and the decode steps after it."""
    lengths = [prompt] + [1] * DECODE_STEPS
    return [mx.random.randint(0, _TOKENS, (batch, n), key=mx.random.key(seed + i)) for i, n in enumerate(lengths)]


def logits(runner: Runner, batch: int, prompt: int) -> list[mx.array]:
    """Logits of all rows of a prompt and its decode steps."""
    caches = runner.new_cache()
    return [runner.forward(tokens, caches) for tokens in steps(batch, prompt, seed=100 * batch + prompt)]


def ragged(runner: Runner) -> list[mx.array]:
    """Logits while sequences of different lengths are prefilled together, joined, filtered, taken out and copied."""
    draws = iter(mx.random.split(mx.random.key(7), 64))
    out: list[mx.array] = []

    def run(rows: int, length: int, caches: list[Cache]) -> None:
        out.append(runner.forward(mx.random.randint(0, _TOKENS, (rows, length), key=next(draws)), caches))

    def each(operation: Callable[[Any], Any], caches: list[Cache]) -> list[Cache]:
        return [[operation(cache) for cache in stage] for stage in caches]

    def merge(sequences: list[list[Cache]]) -> list[Cache]:
        return [
            [column[0].merge(list(column)) for column in zip(*stage, strict=True)]
            for stage in zip(*sequences, strict=True)
        ]

    lengths = [5, 11, 3]
    batch = merge([runner.new_cache() for _ in lengths])
    each(lambda cache: cache.prepare(lengths=lengths, right_padding=[max(lengths) - n for n in lengths]), batch)
    run(3, 6, batch)
    run(3, 5, batch)
    each(lambda cache: cache.finalize(), batch)
    for _ in range(3):
        run(3, 1, batch)
    single = runner.new_cache()
    run(1, 9, single)
    joining = merge([single])
    for stage, more in zip(batch, joining, strict=True):
        for cache, other in zip(stage, more, strict=True):
            cache.extend(other)
    for _ in range(3):
        run(4, 1, batch)
    each(lambda cache: cache.filter([0, 2, 3]), batch)
    for _ in range(3):
        run(3, 1, batch)
    alone = each(lambda cache: cache.extract(1), batch)
    twin = copy.deepcopy(alone)
    for caches in (alone, alone, twin):
        run(1, 1, caches)
    run(1, 4, alone)
    return out


def require_equal(expected: Sequence[mx.array], found: Sequence[mx.array], what: str) -> None:
    """Raise NotProvenError unless all are finite and bit-identical."""
    for i, (a, b) in enumerate(zip(expected, found, strict=True)):
        if not mx.array_equal(a, b).item():
            worst = mx.max(mx.abs(a.astype(mx.float32) - b.astype(mx.float32))).item()
            raise NotProvenError(f"{what}: step {i} differs by up to {worst}")


def attempt(run: Callable[[], list[mx.array]]) -> list[mx.array] | None:
    """The result, or None where mlx-lm itself cannot do it."""
    try:
        return run()
    except Exception:  # noqa: BLE001 - whatever mlx-lm raises, of a whole model: it does not batch
        return None


def prove(config: dict[str, Any], *, every_layer: bool = False) -> dict[str, Any]:
    """Check one configuration.

    Args:
        config: as in ``config.json``.
        every_layer: also cut between all layers.

    Returns:
        The architecture's entry of the data file: its layers, and whether its sequences can be batched.

    Raises:
        NotProvenError: some logits differ.
        UnsupportedModelError: it cannot be cut.
    """
    model_class, arguments = classes_of(config)

    def make() -> Any:
        model = model_class(arguments.from_dict(config))
        model.eval()
        return model

    mx.random.seed(1)
    reference = make()
    reference.update(tree_map(_spread, reference.parameters()))
    mx.eval(reference.parameters())
    whole, n = Whole(reference), len(reference.layers)
    plan = CutPlan(make())
    sizes = [(batch, prompt) for batch in BATCHES for prompt in PROMPTS]
    expected = {size: logits(whole, *size) for size in sizes}
    expected_ragged = attempt(lambda: ragged(whole))
    all_cuts = [[round(i * n / k) for i in range(k + 1)] for k in STAGES if k <= n]
    for cuts in [*all_cuts, *([list(range(n + 1))] if every_layer else [])]:
        ring = Ring(make, reference.parameters(), plan, cuts)
        for size in sizes:
            require_equal(expected[size], logits(ring, *size), f"{len(cuts) - 1} stages, batch and prompt {size}")
        if expected_ragged is not None:
            require_equal(expected_ragged, ragged(ring), f"{len(cuts) - 1} stages, joining and leaving")
    return {"layers": n, "batches": expected_ragged is not None}


def verdict(config: dict[str, Any]) -> tuple[str, Any]:
    """("admitted", entry) or ("refused", reason), with cuts between all layers too."""
    try:
        return "admitted", prove(config, every_layer=True)
    except (NotProvenError, UnsupportedModelError) as error:
        return "refused", str(error)
    except Exception as error:  # noqa: BLE001 - a model's own code can fail in any way, and then nothing is proven
        return "refused", f"{type(error).__name__}: {error}"


def classes_of(config: dict[str, Any]) -> tuple[Any, Any]:
    """The class of the model and that of its arguments, as mlx-lm finds them."""
    found: tuple[Any, Any] = inspect.signature(load_model).parameters["get_model_classes"].default(config)
    return found


def _spread(value: mx.array) -> mx.array:
    noise = 0.05 * mx.random.normal(value.shape)
    return value + noise.astype(value.dtype) if mx.issubdtype(value.dtype, mx.floating) else value


def model_configurations() -> dict[str, dict[str, Any]]:
    """Every configuration there is, by the name of its entry: the model type."""
    return {name: config for file in (TINY_MODELS, MORE_MODELS) for name, config in _read(file).items()}


def what_is_proven() -> dict[str, Any]:
    """With which versions, how, and of which sources: the proof's own, and what cuts and carries over."""
    files = [*sorted((ROOT / "node/engine/cutting").glob("*.py")), ROOT / "node/engine/tensors.py"]
    files += [Path(__file__), TINY_MODELS, MORE_MODELS]
    return {
        "versions": {name: version(name) for name in ("mlx", "mlx-lm")},
        "proof": {"stages": [*STAGES], "prompts": [*PROMPTS], "decode_steps": DECODE_STEPS, "batches": [*BATCHES]},
        "sources": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest(),
    }


def write(data: dict[str, dict[str, Any]]) -> None:
    """Write the data file: one line for each architecture."""
    parts = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in what_is_proven().items()]
    for kind in ("admitted", "refused"):
        entries = [f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in sorted(data[kind].items())]
        parts.append(f' "{kind}": {{\n' + ",\n".join(entries) + "\n }")
    ADMITTED_FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


def _read(file: Path) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return content


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architectures", nargs="*", help="model types; all by default")
    chosen = parser.parse_args().architectures
    configurations = model_configurations()
    if unknown := set(chosen) - configurations.keys():
        parser.error(f"no configuration for {', '.join(sorted(unknown))}")
    data = json.loads(ADMITTED_FILE.read_text("utf-8")) if ADMITTED_FILE.exists() else {}
    if not chosen or any(data.get(key) != value for key, value in what_is_proven().items()):
        data = {"admitted": {}, "refused": {}}
    for name in chosen or configurations:
        start = time.monotonic()
        data["admitted"].pop(name, None)
        data["refused"].pop(name, None)
        kind, entry = verdict(configurations[name])
        data[kind][name] = entry
        print(f"{name} {kind}: {entry} ({time.monotonic() - start:.1f} s)", flush=True)
        gc.collect()
        mx.clear_cache()
    write(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
