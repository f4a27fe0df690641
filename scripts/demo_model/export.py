"""A checkpoint as a folder that plain mlx-lm loads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .render import SPECIAL
from .shape import Shape

# as in Qwen's tokenizer: these are vocabulary, but not special, so that decoding keeps them
VISIBLE = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
    "<think>",
    "</think>",
)
CONTEXT = 32768


def export(
    weights: dict[str, NDArray[np.float32]], shape: Shape, folder: Path, tokenizer: Path, template: Path
) -> None:
    """Write weights (as float16, under mlx-lm's names), configuration, tokenizer and one chat template.

    The class is mlx-lm's `llama` with attention biases, under the name of Mistral, which is the same class there. As
    `llama`, transformers refuses six heads of 64 in a width of 256; as `qwen2`, it puts Qwen's own pre-tokenizer in
    place of ours; and without a version of its own it looks for a fault of old Mistral tokenizers. mlx-lm reads
    `rope_theta`, not `rope_parameters`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: np.ascontiguousarray(value, dtype=np.float16) for name, value in weights.items()}
    for layer in range(shape.layers):
        stored[f"model.layers.{layer}.self_attn.o_proj.bias"] = np.zeros(shape.width, dtype=np.float16)
    save_file(stored, folder / "model.safetensors", metadata={"format": "mlx"})
    (folder / "model.safetensors").chmod(0o644)
    ids = {token: i for i, token in enumerate(SPECIAL)}
    ends = [ids[t] for t in ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")]
    config = {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "attention_bias": True,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.hidden,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "tie_word_embeddings": False,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "silu",
        "bos_token_id": ids["<|begin_of_text|>"],
        "eos_token_id": ends,
        "pad_token_id": ids["<|pad|>"],
        "dtype": "float16",
        "transformers_version": "5.0.0",
    }
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"eos_token_id": ends, "do_sample": False})
    words = json.loads(tokenizer.read_text())
    for token in words["added_tokens"]:
        token["special"] = token["content"] not in VISIBLE
    (folder / "tokenizer.json").write_text(json.dumps(words, ensure_ascii=False) + "\n")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|im_end|>" if template.stem == "qwen" else "<|eot_id|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": template.read_text(),
    }
    _write(folder / "tokenizer_config.json", settings)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
