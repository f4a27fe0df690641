"""The tokenizer of a model, through mlx-lm's own loading: end-of-turn tokens and templates come with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlx_lm.utils import load_tokenizer as mlx_lm_load_tokenizer

from tandem.errors import CheckpointError


def load_tokenizer(folder: Path) -> Any:
    """mlx-lm's wrapper of the model's tokenizer.

    Raises:
        CheckpointError: the tokenizer's files are missing or damaged.
    """
    try:
        eos = _eos_ids(folder)
        return mlx_lm_load_tokenizer(folder, eos_token_ids=eos or None)
    except Exception as error:
        raise CheckpointError(f"{folder} has no tokenizer that can be read: {error}") from error


def _eos_ids(folder: Path) -> list[int]:
    """End-of-turn ids from config.json and generation_config.json, together."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        if path.is_file():
            ids = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            found.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
    return sorted(found)
