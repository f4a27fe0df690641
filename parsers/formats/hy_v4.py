"""Hunyuan Hy4: as Hy3."""

from dataclasses import replace

from parsers.formats import hy_v3

FORMAT = replace(hy_v3.FORMAT, key="hy_v4", models="Hunyuan Hy4")
