"""Command lines of the benchmarks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the script's own words and ``--json``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser


def save(figures: Mapping[str, object], path: Path | None) -> None:
    """Writes the figures where ``--json`` says, if it does."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
