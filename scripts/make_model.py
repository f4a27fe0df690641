"""Make a tiny model with random weights that mlx-lm loads: for tests, and to try out an architecture.

    scripts/make_model.py llama out/ --seed 1 --shards 3

The weights are spread so that greedy decoding does not fall into one token.
"""

from __future__ import annotations

import argparse
import inspect
import json
import shutil
from math import sqrt
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model

DEMO = Path(__file__).resolve().parents[1] / "node" / "demo"
CONFIGURATIONS = Path(__file__).with_name("tiny_models.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def configurations() -> dict[str, dict[str, Any]]:
    """The configuration of each architecture by its model type."""
    tiny: dict[str, dict[str, Any]] = json.loads(CONFIGURATIONS.read_text("utf-8"))
    return tiny


def random_weights(model: Any, seed: int) -> dict[str, mx.array]:
    """Weights with the names and shapes of the model's, the same for the same seed, and nowhere 0 or 1 throughout."""
    keys = iter(mx.random.split(mx.random.key(seed), 4096))
    weights = {}
    for name, value in sorted(tree_flatten(model.parameters())):
        noise = mx.random.normal(value.shape, key=next(keys))
        if not mx.issubdtype(value.dtype, mx.floating):
            weights[name] = value
        elif value.ndim < 2:
            weights[name] = (value + 0.1 * noise).astype(value.dtype)
        else:
            gain = 0.3 if "embed" in name else (4.0 if "lm_head" in name else 1.5) / sqrt(value.shape[-1])
            weights[name] = (gain * noise).astype(value.dtype)
    return weights


def save_sharded(folder: Path, weights: dict[str, mx.array], shards: int) -> None:
    """Write the weights in that many files of about the same size, with mlx-lm's names and index."""
    total = sum(value.nbytes for value in weights.values())
    files: list[dict[str, mx.array]] = [{} for _ in range(shards)]
    done = 0
    for name, value in weights.items():
        files[min(shards - 1, done * shards // total)][name] = value
        done += value.nbytes
    names = [
        f"model-{i + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else "model.safetensors" for i in range(shards)
    ]
    for name, part in zip(names, files, strict=True):
        mx.save_safetensors(str(folder / name), part, {"format": "mlx"})
    index = {key: name for name, part in zip(names, files, strict=True) for key in sorted(part)}
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
    (folder / "model.safetensors.index.json").write_text(text, "utf-8")


def make_model(
    config: dict[str, Any], folder: Path, *, seed: int = 0, shards: int = 1, dtype: str = "float32",
    tokenizer: Path | None = None,
) -> None:  # fmt: skip
    """Write a model folder: configuration, weights, and the files of the tokenizer folder where one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(config)
    if tokenizer is not None:
        theirs = json.loads((tokenizer / "config.json").read_text("utf-8"))
        config |= {name: theirs[name] for name in SPECIAL_TOKENS if name in theirs}
        for name in TOKENIZER_FILES:
            if (tokenizer / name).exists():
                shutil.copyfile(tokenizer / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
    find_classes = inspect.signature(load_model).parameters["get_model_classes"].default
    model_class, arguments = find_classes(config)
    weights = random_weights(model_class(arguments.from_dict(config)), seed)
    dtypes = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
    cast = {n: v.astype(dtypes[dtype]) if mx.issubdtype(v.dtype, mx.floating) else v for n, v in weights.items()}
    save_sharded(folder, in_layer_order(cast), shards)


def in_layer_order(weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """Embeddings first, then layer after layer, then the rest, as published checkpoints have it."""

    def order(name: str) -> tuple[int, str]:
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        if numbers:
            return numbers[0], name
        return -1 if "embed" in name else 1 << 30, name

    return {name: weights[name] for name in sorted(weights, key=order)}


def main() -> None:
    known = configurations()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architecture", choices=sorted(known))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1, help="number of safetensors files")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--layers", type=int, help="decoder layers instead of the configuration's")
    parser.add_argument("--tokenizer", type=Path, default=DEMO, help="folder to take a tokenizer from")
    arguments = parser.parse_args()
    config = known[arguments.architecture]
    if arguments.layers:
        config.get("text_config", config)["num_hidden_layers"] = arguments.layers
    make_model(
        config, arguments.folder, seed=arguments.seed, shards=arguments.shards, dtype=arguments.dtype,
        tokenizer=arguments.tokenizer,
    )  # fmt: skip
    print(f"{arguments.architecture} in {arguments.folder}")


if __name__ == "__main__":
    main()
