"""Nemotron 3 and 3.5 Nano, Super, Ultra: as Qwen3.5."""

from dataclasses import replace

from parsers.formats import qwen3_5

FORMAT = replace(qwen3_5.FORMAT, key="nemotron_v3", models="Nemotron 3 and 3.5 Nano, Super, Ultra")
