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

from tandem.cli.children import FOLLOW_FLAG, follow_stdin
from tandem.cli.output import log_to_stderr
from tandem.settings import GatewaySettings, add_flags, given_flags, load_settings

SUMMARY: Final = "run the HTTP server for clients"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's flags."""
    add_flags(parser, GatewaySettings)
    parser.add_argument(FOLLOW_FLAG, action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Runs the gateway until it is asked to end."""
    settings = load_settings(GatewaySettings, given_flags(arguments, GatewaySettings))
    if arguments.follow_stdin:
        follow_stdin()
    log_to_stderr(settings.log_level)
    from gateway.server import run as serve

    serve(settings, ready=lambda url: print(f"ready gateway listen={url.removeprefix('http://')}", flush=True))
    return 0
