"""Command A and Cohere 2 MoE: as Command R7B; the answer's markers differ."""

from dataclasses import replace

from parsers.formats import command_r7b

FORMAT = replace(command_r7b.FORMAT, key="command_a", models="Command A, Cohere2-MoE", signs=())
