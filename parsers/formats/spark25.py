"""Spark 2.5: as GLM 4.7."""

from dataclasses import replace

from parsers.formats import glm47

FORMAT = replace(glm47.FORMAT, key="spark25", models="Spark 2.5", signs=("<|Bot|>",))
