"""Says where a model would go and why, without loading it.

examples:
  tandem plan mlx-community/Qwen3-4B-4bit
  tandem plan tandem-demo --on mini --on studio      over these nodes, in this order
  tandem plan tandem-demo --json > plan.json         to read, to change, and then
  tandem load tandem-demo --plan plan.json           to load exactly so
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from google.protobuf.json_format import MessageToJson

from tandem.cli import connect, loading, output
from tandem.settings.values import count

SUMMARY: Final = "say where a model would go, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    add_placement_arguments(parser)
    parser.add_argument("--json", action="store_true", help="write the plan as JSON, for `tandem load --plan`")
    connect.add_arguments(parser)


def add_placement_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what planning and loading share: the model, the context, the nodes."""
    parser.add_argument("model", metavar="MODEL", help="a name of `tandem models`, a Hugging Face id or a folder")
    parser.add_argument("--revision", metavar="HASH", default="", help="this commit of the model (its newest)")
    parser.add_argument(
        "--context", metavar="TOKENS", type=tokens, default=0, help="tokens that must fit (the planner's choice)"
    )
    parser.add_argument(
        "--on", metavar="NODE", action="append", default=[], help="on this node, by name or id; may be given again"
    )


def tokens(text: str) -> int:
    """A number of tokens, above zero."""
    try:
        return count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan."""
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    async with connect.connect(arguments) as connection:
        topology = await connection.topology()
        plan = await loading.plan_model(
            connection,
            loading.model_ref(arguments.model, arguments.revision),
            context_tokens=arguments.context,
            nodes=loading.node_ids(topology, arguments.on),
        )
    if arguments.json:
        print(MessageToJson(plan, preserving_proto_field_name=True))
        return
    print(f"{plan.model.model_id} {plan.model.revision[:12]}".strip())
    print(f"\n{output.stage_table(plan.stages, output.node_names(topology))}")
    if plan.explanation:
        print("\nwhy:")
        for reason in plan.explanation:
            print(f"  {reason}")
