"""A node without a model, for tests: membership over real gRPC, found by real mDNS. Prints its view at each change."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from contextlib import aclosing
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from node.cluster.addresses import listen_endpoints
from node.cluster.hints import Hints
from node.cluster.identity import Identity
from node.cluster.membership import LocalState, Membership
from node.services.membership import MembershipServicer
from tandem import rpc
from tandem.discovery import Announcement
from tandem.errors import ConflictError
from tandem.settings import join_address, split_address
from tandem.v1.membership_pb2 import NODE_STATE_ALIVE, NodeCapabilities
from tandem.v1.membership_pb2_grpc import add_MembershipServiceServicer_to_server


def say(record: dict[str, object]) -> None:
    print(json.dumps(record), flush=True)


async def follow(membership: Membership) -> None:
    async with aclosing(membership.watch()) as views:
        async for topology in views:
            say(MessageToDict(topology, preserving_proto_field_name=True))


async def main(options: argparse.Namespace) -> None:
    host, wanted = split_address(options.listen)
    server = rpc.make_server()
    port = server.add_insecure_port(join_address(host, wanted))
    hints = Hints(options.peer)
    with Identity(options.data_dir) as identity:
        membership = Membership(
            identity=identity,
            name=options.name,
            cluster=options.cluster,
            endpoints=lambda: listen_endpoints(host, port),
            local=lambda: LocalState(NodeCapabilities(), NODE_STATE_ALIVE, "", 0, 0, ()),
            hints=hints,
            version="0.1.0",
            on_fenced=lambda reason: say({"fenced": reason}),
        )
        add_MembershipServiceServicer_to_server(MembershipServicer(membership), server)
        await server.start()
        announcement = Announcement(
            options.cluster,
            node_id=identity.node_id,
            listen=host,
            port=port,
            on_found=hints.found,
            on_gone=hints.gone,
        )
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        async with announcement:
            say({"port": port, "node_id": identity.node_id})
            running = asyncio.create_task(membership.run())
            following = asyncio.create_task(follow(membership))
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            results = await asyncio.gather(running, return_exceptions=True)
            following.cancel()
            stopping.cancel()
            await asyncio.gather(following, stopping, return_exceptions=True)
            say({"heard_self": announcement.heard_self})
        await server.stop(0.2)
        for result in results:
            if isinstance(result, ConflictError):
                sys.exit(result.message)
            if isinstance(result, Exception):
                raise result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--cluster", default="test")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--data-dir", type=Path, required=True)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    rpc.run(main(parser.parse_args()))
