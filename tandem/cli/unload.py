"""Unloads a model once its running answers have ended, and gives its memory back.

examples:
  tandem unload tandem-demo
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from tandem.cli import connect, output
from tandem.v1 import model_pb2

SUMMARY: Final = "unload a model"

DEADLINE: Final = 300.0
"""Seconds: running answers are waited for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    parser.add_argument("model", metavar="MODEL", help="a name under which it is served, or its pipeline's id")
    connect.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Unloads the model and says how much memory is free again."""
    freed = asyncio.run(_run(arguments))
    print(f"{arguments.model} is unloaded, {output.size(freed)} are free again")
    return 0


async def _run(arguments: argparse.Namespace) -> int:
    async with connect.connect(arguments) as connection:
        request = model_pb2.UnloadModelRequest(name=arguments.model)
        response = await connection.models.UnloadModel(request, timeout=DEADLINE)
        return response.freed_bytes
