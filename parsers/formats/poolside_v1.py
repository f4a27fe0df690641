"""Laguna: as GLM 4.7."""

from dataclasses import replace

from parsers.formats import glm47

FORMAT = replace(
    glm47.FORMAT, key="poolside_v1", models="Laguna", ends=("</assistant>", *glm47.FORMAT.ends), signs=("</assistant>",)
)
