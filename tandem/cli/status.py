"""Shows the nodes of the cluster, what they hold and which models serve.

examples:
  tandem status                        what the node on this machine sees
  tandem status --node 10.0.0.1:52415  what another node sees
  tandem status --watch                again at every change, until Ctrl-C
  tandem status --json | jq .nodes     for programs; with --watch, one line for each change
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Final

from google.protobuf.json_format import MessageToDict

from tandem.cli import connect, output
from tandem.settings import join_address
from tandem.v1 import membership_pb2

SUMMARY: Final = "show nodes and what they hold"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    parser.add_argument("--json", action="store_true", help="write JSON instead of tables")
    parser.add_argument("--watch", action="store_true", help="go on and show every change")
    connect.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the status once, or until the node goes away."""
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    async with connect.connect(arguments) as connection:
        if not arguments.watch:
            print(_render(await connection.topology(), arguments.json))
            return
        clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() and not arguments.json else ""
        before = ""
        async for response in connection.membership.WatchTopology(membership_pb2.WatchTopologyRequest()):
            topology = response.topology
            shown = json.dumps(_as_dict(topology)) if arguments.json else f"{describe(topology)}\n"
            # Much that changes is not shown: the version in a table, memory below the digits of one.
            topology.version = 0
            now = json.dumps(_as_dict(topology)) if arguments.json else shown
            if now != before:
                print(f"{clear}{shown}", flush=True)
                before = now


def _render(topology: membership_pb2.Topology, as_json: bool) -> str:
    return json.dumps(_as_dict(topology), indent=2) if as_json else describe(topology)


def _as_dict(topology: membership_pb2.Topology) -> dict[str, object]:
    return MessageToDict(topology, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def describe(topology: membership_pb2.Topology) -> str:
    """One node's view of the cluster as tables."""
    names = output.node_names(topology)
    holds: dict[str, list[str]] = {}
    for pipeline in topology.pipelines:
        for stage in pipeline.stages:
            for node_id in stage.node_ids:
                holds.setdefault(node_id, []).append(f"{pipeline.model.model_id}: {output.layers(stage.segments)}")
    nodes = output.table(
        ("node", "id", "address", "state", "memory free", "device", "holds"),
        (
            (
                names[node.node_id],
                node.node_id[:8],
                ", ".join(join_address(endpoint.host, endpoint.port) for endpoint in node.endpoints[:1]),
                output.node_state(node),
                _memory(node),
                node.capabilities.device,
                "" if node.state == membership_pb2.NODE_STATE_LOST else "; ".join(holds.get(node.node_id, ())),
            )
            for node in topology.nodes
        ),
    )
    nodes = output.with_troubles(nodes, (output.node_trouble(node, names[node.node_id]) for node in topology.nodes))
    if not topology.pipelines:
        return f"{nodes}\n\nno model is loaded; `tandem models` lists those at hand, `tandem load MODEL` loads one"
    models = output.table(
        ("model", "served as", "state", "stages"),
        (
            (
                pipeline.model.model_id,
                output.served_as(pipeline),
                output.pipeline_state(pipeline),
                " → ".join(
                    "+".join(names.get(node_id, node_id[:8]) for node_id in stage.node_ids) for stage in pipeline.stages
                ),
            )
            for pipeline in topology.pipelines
        ),
    )
    models = output.with_troubles(models, (output.pipeline_trouble(pipeline) for pipeline in topology.pipelines))
    return f"{nodes}\n\n{models}"


def _memory(node: membership_pb2.Node) -> str:
    """How much is free; nothing for a node that is gone, as it no longer says."""
    if node.state == membership_pb2.NODE_STATE_LOST:
        return ""
    return f"{output.size(node.capabilities.free_memory_bytes)} of {output.size(node.capabilities.memory_bytes)}"
