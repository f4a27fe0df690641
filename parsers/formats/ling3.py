"""Ling 3.0: as GLM 4.5."""

from dataclasses import replace

from parsers.formats import glm45

FORMAT = replace(glm45.FORMAT, key="ling3", models="Ling 3.0", ends=("<|role_end|>", "<|endoftext|>"))
