"""Runs the node daemon of this machine in the foreground; Ctrl-C ends it.

It joins the nodes of the same cluster that it hears by mDNS or is told of, and prints one
line when it is ready: ready node=NAME id=ID listen=HOST:PORT. Logs go to stderr.

examples:
  tandem node                                         on this machine alone
  tandem node --listen 10.0.0.1:52415 --insecure      for the machines of a network that you trust
  tandem node --peer 10.0.0.1:52415 --listen 10.0.0.2:52415 --insecure --no-mdns
  tandem node --listen 127.0.0.1:0 --data-dir /tmp/b  a second one on this machine
"""

from __future__ import annotations

import argparse
from typing import Final

from tandem.cli.children import FOLLOW_FLAG, follow_stdin
from tandem.settings import NodeSettings, add_flags, given_flags, load_settings

SUMMARY: Final = "run the node daemon of this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    add_flags(parser, NodeSettings)
    parser.add_argument(FOLLOW_FLAG, action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Runs the daemon until it is asked to end; its exit code."""
    settings = load_settings(NodeSettings, given_flags(arguments, NodeSettings))
    if arguments.follow_stdin:
        follow_stdin()
    from node.daemon import run as serve

    return serve(settings)
