"""Qwen3.5 and later: the calls of Qwen3-Coder behind a thought that the prompt has opened."""

from dataclasses import replace

from parsers.format import THINK
from parsers.formats import qwen3_coder

FORMAT = replace(
    qwen3_coder.FORMAT,
    key="qwen3_5",
    models="Qwen3.5, 3.6, 3.8, Nanbeige, Ornith",
    thoughts=(THINK,),
)
