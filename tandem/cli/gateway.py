"""Runs a gateway in the foreground: the HTTP server that clients talk to; Ctrl-C ends it.

Any number of them may run. It prints one line when it is ready:
ready gateway listen=HOST:PORT. Logs go to stderr.

examples:
  tandem gateway                                          clients of this machine: http://127.0.0.1:52525/v1
  tandem gateway --node 10.0.0.1:52415                    talk to this node instead of those found by mDNS
  tandem gateway --listen 0.0.0.0:52525 --api-key SECRET  clients of other machines, with a key
"""

from __future__ import annotations

import argparse
from typing import Final

from gateway.__main__ import serve
from tandem import daemon
from tandem.settings import GatewaySettings

SUMMARY: Final = "run the HTTP server for clients"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    daemon.add_arguments(parser, GatewaySettings)


def run(arguments: argparse.Namespace) -> int:
    """Runs the gateway until it is asked to end; its exit code."""
    return daemon.run(arguments, GatewaySettings, serve)
