"""Stand-ins for the two daemons, to see what ``tandem up`` does with them: ``scripted_daemons.py up …`` runs it so.

The nodes meet through files in the folder ``SCRIPT_FOLDER``: announced ones as if by mDNS, which does not work when
``SCRIPT`` says ``deaf``; others when they were given a peer. ``SCRIPT`` also says ``uncuttable`` (planning over
several nodes is refused), ``missing`` (there is no such model), ``crash`` (the second node dies while it loads),
``stubborn`` (SIGTERM is ignored).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tandem import daemon, rpc
from tandem.cli import children, main
from tandem.errors import NotFoundError, UnsupportedModelError
from tandem.v1 import membership_pb2, membership_pb2_grpc, model_pb2, model_pb2_grpc, types_pb2

SCRIPT = os.environ.get("SCRIPT", "")


class Node(membership_pb2_grpc.MembershipServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """One member, which knows the others by the files that they leave."""

    def __init__(self, name: str, met: bool) -> None:
        self.name = name
        self.file = Path(os.environ["SCRIPT_FOLDER"]) / name
        self.met = met
        self.pipelines: list[membership_pb2.Pipeline] = []

    def topology(self) -> membership_pb2.Topology:
        names = sorted(path.name for path in self.file.parent.iterdir())
        seen = names if self.met or self.name == "node-1" else [self.name]
        if SCRIPT == "deaf" and not any(path.read_text() == "peer" for path in self.file.parent.iterdir()):
            seen = [self.name]
        alive = membership_pb2.NODE_STATE_ALIVE
        nodes = [membership_pb2.Node(node_id=f"{name}-id", name=name, state=alive) for name in seen]
        return membership_pb2.Topology(nodes=nodes, pipelines=self.pipelines)

    async def GetTopology(self, request: Any, context: Any) -> membership_pb2.GetTopologyResponse:
        return membership_pb2.GetTopologyResponse(topology=self.topology())

    async def WatchTopology(self, request: Any, context: Any) -> AsyncIterator[membership_pb2.WatchTopologyResponse]:
        while True:
            yield membership_pb2.WatchTopologyResponse(topology=self.topology())
            await asyncio.sleep(0.05)

    async def PlanModel(self, request: model_pb2.PlanModelRequest, context: Any) -> model_pb2.PlanModelResponse:
        if SCRIPT == "missing":
            await rpc.abort(context, NotFoundError(f"no model is called {request.model.model_id!r}"))
        if SCRIPT == "uncuttable":
            await rpc.abort(context, UnsupportedModelError("architecture 'odd' runs whole on one node"))
        stages = [
            membership_pb2.Stage(node_ids=[node_id], segments=[types_pb2.Segment(first_layer=i, end_layer=i + 1)])
            for i, node_id in enumerate(request.node_ids)
        ]
        return model_pb2.PlanModelResponse(plan=model_pb2.Plan(model=request.model, stages=stages))

    async def LoadModel(self, request: Any, context: Any) -> AsyncIterator[model_pb2.LoadModelResponse]:
        if SCRIPT == "crash":
            (self.file.parent / "crash").touch()
            await asyncio.sleep(30)
        stages = request.plan.stages or [membership_pb2.Stage(node_ids=["node-1-id"])]
        names = [membership_pb2.ServedName(name="demo-a")]
        yield model_pb2.LoadModelResponse(
            ready=membership_pb2.Pipeline(model=request.model, stages=stages, served_names=names)
        )


async def serve_node(arguments: argparse.Namespace) -> None:
    peers = [peer for peer in arguments.peer if peer]
    node = Node(arguments.name, arguments.mdns or bool(peers))
    server = rpc.make_server()
    membership_pb2_grpc.add_MembershipServiceServicer_to_server(node, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(node, server)
    port = server.add_insecure_port(arguments.listen)
    await server.start()
    node.file.write_text("peer" if peers else "mdns")
    print(f"ready node={arguments.name} id={arguments.name}-id listen=127.0.0.1:{port}", flush=True)
    while True:
        await asyncio.sleep(0.05)
        if arguments.name == "node-2" and (node.file.parent / "crash").exists():
            print("a last word\nand the reason", file=sys.stderr, flush=True)
            os._exit(7)


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def serve_gateway(arguments: argparse.Namespace) -> None:
    with ThreadingHTTPServer(("127.0.0.1", int(arguments.listen.rpartition(":")[2])), Health) as server:
        print(f"ready gateway listen=127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


def run_daemon() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("--peer", action="append")
    parser.add_argument("--mdns", action=argparse.BooleanOptionalAction)
    for flag in ("--name", "--listen"):
        parser.add_argument(flag)
    arguments, _ = parser.parse_known_args()
    if SCRIPT == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    daemon.follow_stdin()
    print(f"{arguments.kind} starts", file=sys.stderr, flush=True)
    if arguments.kind == "gateway":
        serve_gateway(arguments)
    else:
        asyncio.run(serve_node(arguments))


if __name__ == "__main__":
    if sys.argv[1] == "up":
        children.TANDEM = (sys.executable, __file__)
        sys.exit(main())
    run_daemon()
