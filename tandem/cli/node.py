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

from node.__main__ import serve
from tandem import daemon
from tandem.settings import NodeSettings

SUMMARY: Final = "run the node daemon of this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    daemon.add_arguments(parser, NodeSettings)


def run(arguments: argparse.Namespace) -> int:
    """Runs the daemon until it is asked to end; its exit code."""
    return daemon.run(arguments, NodeSettings, serve)
