"""How a node and a gateway are run, by ``tandem`` and by ``python -m`` alike: flags, log, ready line, end."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from tandem.command import INTERRUPTED, Parser, fail
from tandem.errors import ConflictError, SettingsError, TandemError
from tandem.settings import GatewaySettings, NodeSettings, add_flags, given_flags, load_settings, split_address

FOLLOW_FLAG: Final = "--follow-stdin"
"""Hidden flag: the daemon ends when its standard input does, which is when the parent that started it is gone."""
GRACE: Final = 3.0
"""Seconds between asking a daemon to end and ending it."""

Settings = TypeVar("Settings", NodeSettings, GatewaySettings)


def add_arguments(parser: argparse.ArgumentParser, kind: type[NodeSettings] | type[GatewaySettings]) -> None:
    """Adds the flags of a daemon: its settings."""
    add_flags(parser, kind)
    parser.add_argument(FOLLOW_FLAG, action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace, kind: type[Settings], serve: Callable[[Settings], None]) -> int:
    """Runs ``serve``, which returns when it is told to end by SIGINT or SIGTERM; the exit code. Logs go to stderr.

    Raises what ``load_settings`` and ``serve`` raise.
    """
    settings = load_settings(kind, given_flags(arguments, kind))
    if arguments.follow_stdin:
        follow_stdin()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    # It logs a traceback once per socket when an interface is down; discovery says what matters itself.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    serve(settings)
    return 0


def main(
    name: str, kind: type[Settings], serve: Callable[[Settings], None], arguments: Sequence[str] | None = None
) -> int:
    """``python -m <name>``: what ``tandem <name>`` does, with the same flags, output and exit codes."""
    about = f"The same as `tandem {name}`, whose help says more."
    parser = Parser(prog=f"python -m {name}", description=about)
    add_arguments(parser, kind)
    try:
        return run(parser.parse_args(arguments), kind, serve)
    except TandemError as error:
        return fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def say_ready(line: str) -> None:
    """Writes the line on stdout that says that the daemon listens, and where."""
    sys.stdout.write(f"ready {line}\n")
    sys.stdout.flush()


def listen_error(address: str, error: OSError) -> ConflictError | SettingsError:
    """What a person is told of an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return ConflictError(f"{address} is in use: another process listens there")
    return SettingsError(f"listen: cannot listen on {address}: {error.strerror or error}")


def check_listen(address: str) -> None:
    """Raises what ``listen_error`` makes of an address that cannot be bound now; blocking, as it may resolve a name."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        raise listen_error(address, error) from None


def follow_stdin() -> None:
    """Ends this process when its standard input ends: asks itself by SIGTERM, and after ``GRACE`` seconds insists."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE)
        os._exit(1)

    threading.Thread(target=watch, name="follow-stdin", daemon=True).start()
