"""A checkpoint, written as a folder, is a model to plain mlx-lm."""

from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
from demo_model.export import export
from demo_model.shape import Shape

DEMO = Path(__file__).resolve().parents[2] / "node/demo"


def weights_of(shape):
    rng = np.random.default_rng(0)
    made = {
        "model.embed_tokens.weight": (shape.vocabulary, shape.width),
        "lm_head.weight": (shape.vocabulary, shape.width),
        "model.norm.weight": (shape.width,),
    }
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        for name, rows in (
            ("q", shape.heads * shape.head_dim),
            ("k", shape.kv_heads * shape.head_dim),
            ("v", shape.kv_heads * shape.head_dim),
        ):
            made[f"{at}.self_attn.{name}_proj.weight"] = (rows, shape.width)
            made[f"{at}.self_attn.{name}_proj.bias"] = (rows,)
        made[f"{at}.self_attn.o_proj.weight"] = (shape.width, shape.heads * shape.head_dim)
        for name in ("gate", "up"):
            made[f"{at}.mlp.{name}_proj.weight"] = (shape.hidden, shape.width)
        made[f"{at}.mlp.down_proj.weight"] = (shape.width, shape.hidden)
        made[f"{at}.input_layernorm.weight"] = made[f"{at}.post_attention_layernorm.weight"] = (shape.width,)
    return {name: rng.normal(0, 0.05, size).astype(np.float32) for name, size in made.items()}


def test_an_exported_folder_loads_and_holds_what_was_written(tmp_path):
    shape = Shape(layers=2)
    weights = weights_of(shape)
    export(weights, shape, tmp_path, DEMO / "tokenizer.json", DEMO / "templates/qwen.jinja")
    model, tokenizer = mlx_lm.load(str(tmp_path))
    assert len(model.layers) == 2
    loaded = dict(mx_flat(model.parameters()))
    for name, value in weights.items():
        assert np.array_equal(np.array(loaded[name]), value.astype(np.float16)), name
    assert not np.array(loaded["model.layers.1.self_attn.o_proj.bias"]).any()
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert tokenizer.decode(prompt) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert model(mx.array([prompt])).shape == (1, len(prompt), shape.vocabulary)
    assert {tokenizer.decode([i]) for i in tokenizer.eos_token_ids} == {
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
    }


def mx_flat(tree, path=""):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        at = f"{path}.{key}" if path else str(key)
        if isinstance(value, mx.array):
            yield at, value
        else:
            yield from mx_flat(value, at)
