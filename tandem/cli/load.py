"""Loads a model over the cluster; shows each node's progress and ends when the model serves.

examples:
  tandem load tandem-demo                         the planner decides where
  tandem load mlx-community/Qwen3-4B-4bit         fetched from the Hugging Face hub where it is missing
  tandem load tandem-demo --on mini --on studio   over these nodes, in this order
  tandem load tandem-demo --plan plan.json        as `tandem plan --json` wrote it
  tandem load ~/models/mine --as gpt-4o           served under another name too
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from google.protobuf.json_format import Parse, ParseError

from tandem.cli import connect, loading, output
from tandem.cli.plan import add_placement_arguments
from tandem.errors import InvalidRequestError
from tandem.v1 import membership_pb2, model_pb2

SUMMARY: Final = "load a model over the cluster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    add_placement_arguments(parser)
    parser.add_argument("--plan", metavar="FILE", help="load exactly so; - reads the plan from stdin")
    parser.add_argument(
        "--as",
        metavar="NAME",
        action="append",
        default=[],
        dest="names",
        help="serve it as NAME too; may be given again",
    )
    connect.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Loads the model and prints where it is."""
    plan = read_plan(arguments.plan) if arguments.plan else None
    if plan is not None and arguments.on:
        raise InvalidRequestError("--plan says which nodes; --on does not go with it", param="on")
    asyncio.run(_run(arguments, plan))
    return 0


def read_plan(name: str) -> model_pb2.Plan:
    """A plan from a file or, for ``-``, from stdin; ``InvalidRequestError`` when it is none."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        return Parse(text, model_pb2.Plan())
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise InvalidRequestError(f"{name} is not a plan: {error}", param="plan") from None


async def _run(arguments: argparse.Namespace, plan: model_pb2.Plan | None) -> None:
    model = loading.model_ref(arguments.model, arguments.revision)
    async with connect.connect(arguments) as connection:
        topology = await connection.topology()
        names = output.node_names(topology)
        if arguments.on:
            nodes = loading.node_ids(topology, arguments.on)
            plan = await loading.plan_model(connection, model, context_tokens=arguments.context, nodes=nodes)
        request = model_pb2.LoadModelRequest(
            model=model,
            plan=plan,
            served_names=[membership_pb2.ServedName(name=name) for name in arguments.names],
            context_tokens=arguments.context,
        )
        pipeline = await loading.load_model(connection, request, names)
    print(f"{pipeline.model.model_id} serves as {output.served_as(pipeline)}\n")
    print(output.stage_table(pipeline.stages, names))
