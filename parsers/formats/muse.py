"""Muse Spark: as Muse Glimmer."""

from dataclasses import replace

from parsers.formats import muse_glimmer

FORMAT = replace(muse_glimmer.FORMAT, key="muse", models="Muse Spark", signs=())
