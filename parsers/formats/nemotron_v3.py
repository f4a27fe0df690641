"""Nemotron 3 and 3.5: as Qwen3.5; a thought is closed even where the prompt has opened none."""

from dataclasses import replace

from parsers.format import THINK
from parsers.formats import qwen3_5

FORMAT = replace(
    qwen3_5.FORMAT,
    key="nemotron_v3",
    models="Nemotron 3 and 3.5 Nano, Super, Ultra",
    signs=("truncate_history_thinking",),
    thoughts=(replace(THINK, stray="head"),),
)
