"""Lists the models that serve, load or lie on the disks of the cluster.

examples:
  tandem models          what there is, and the name to ask for
  tandem models --json   for programs
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Final

from google.protobuf.json_format import MessageToDict

from tandem import rpc
from tandem.cli import connect, output
from tandem.v1 import model_pb2

SUMMARY: Final = "list models that serve or could"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    parser.add_argument("--json", action="store_true", help="write JSON instead of a table")
    connect.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the models."""
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    async with connect.connect(arguments) as connection:
        response = await connection.models.ListModels(model_pb2.ListModelsRequest(), timeout=rpc.UNARY_DEADLINE)
        if arguments.json:
            print(json.dumps(MessageToDict(response, preserving_proto_field_name=True), indent=2))
            return
        names = output.node_names(await connection.topology())
    if not response.models:
        print("no model is at hand; `tandem load owner/name` fetches one from the Hugging Face hub")
        return
    columns = ("model", "ask for", "state", "context", "files on")
    shown = output.table(columns, (_row(entry, names) for entry in response.models))
    print(output.with_troubles(shown, (output.pipeline_trouble(entry.pipeline) for entry in response.models)))


def _row(entry: model_pb2.ModelEntry, names: dict[str, str]) -> tuple[str, ...]:
    return (
        entry.model.model_id,
        ", ".join(entry.served_names),
        output.pipeline_state(entry.pipeline) if entry.HasField("pipeline") else "on disk",
        str(entry.context_tokens or ""),
        ", ".join(names.get(node_id, node_id[:8]) for node_id in entry.on_disk_node_ids),
    )
