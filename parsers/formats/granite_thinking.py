"""Granite with thoughts: as Qwen3.5."""

from dataclasses import replace

from parsers.formats import qwen3_5

FORMAT = replace(qwen3_5.FORMAT, key="granite_thinking", models="Granite with thoughts", signs=("<|start_of_role|>",))
