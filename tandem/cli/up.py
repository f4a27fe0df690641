"""Starts a cluster on this machine: node daemons, one model cut over all of them, a gateway for clients.

Everything stays in the foreground and ends with Ctrl-C; nothing is left behind. The nodes
find each other by mDNS under a cluster name of their own, so two of these never merge.

examples:
  tandem up                                           two nodes, the embedded demo model
  tandem up --nodes 3                                 three stages
  tandem up --nodes 1 --model mlx-community/Qwen3-4B-4bit
  tandem up --port 8080                               clients' port
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

from tandem.cli.children import Children
from tandem.cli.local_cluster import LocalCluster
from tandem.errors import ConflictError
from tandem.settings import NodeSettings, add_flags, given_flags, load_settings, split_address
from tandem.settings.schema import DEFAULT_GATEWAY

SUMMARY: Final = "start a cluster on this machine, and a gateway"

MOST_NODES: Final = 16
DEFAULT_MODEL: Final = "tandem-demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    default_port = split_address(DEFAULT_GATEWAY)[1]
    parser.add_argument("--nodes", metavar="N", type=_nodes, default=2, help="node daemons to start (2)")
    parser.add_argument(
        "--model", metavar="MODEL", default=DEFAULT_MODEL, help=f"a Hugging Face id or a folder ({DEFAULT_MODEL})"
    )
    parser.add_argument(
        "--port", metavar="PORT", type=_port, default=default_port, help=f"where clients connect ({default_port})"
    )
    add_flags(parser, NodeSettings, only=("mdns", "log_level"))


def _nodes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_NODES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_NODES}")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Runs the cluster until Ctrl-C (0), or until nothing is left that could answer (1)."""
    settings = load_settings(NodeSettings, given_flags(arguments, NodeSettings))
    check_port(arguments.port)
    return asyncio.run(_run(arguments, settings))


def check_port(port: int) -> None:
    """Raises ``ConflictError`` when clients could not be served on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else "is not for everybody"
            other = port + 1 if error.errno == errno.EADDRINUSE and port < 65535 else 8080
            raise ConflictError(
                f"port {port} {why}; take another one: `tandem up --port {other}` or `make run PORT={other}`"
            ) from None


async def _run(arguments: argparse.Namespace, settings: NodeSettings) -> int:
    """Starts, watches and ends everything; the first signal ends in order, a second one at once."""
    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    assert work is not None
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="tandem-up-") as folder:
        children = Children(Path(folder))

        def interrupt() -> None:
            nonlocal interrupted
            if interrupted:
                children.kill()
            else:
                interrupted = True
                work.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, interrupt)
        try:
            async with children:
                cluster = LocalCluster(
                    children,
                    Path(folder),
                    name=f"up-{secrets.token_hex(4)}",
                    mdns=settings.mdns,
                    log_level=settings.log_level,
                )
                await cluster.start(arguments.nodes, arguments.model, arguments.port)
                print(cluster.describe(), flush=True)
                return await cluster.watch()
        except asyncio.CancelledError:
            if not interrupted:
                raise
            print("\nended", file=sys.stderr)
            return 0
