"""The whole command line: which commands there are, what they share, and how their errors end."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NoReturn

from tandem.command import FAILED, WRONG_USE, Parser, fail
from tandem.errors import TandemError
from tandem.version import __version__

COMMANDS: Final = ("up", "node", "gateway", "status", "models", "plan", "load", "unload", "chat", "tools")
"""Each is a module here: a docstring that teaches, ``SUMMARY``, ``add_arguments(parser)``, ``run(arguments)``."""

DESCRIPTION: Final = """\
Runs one language model across the machines that you have, and serves it to agents.

A node daemon on each machine, a gateway where clients point. To try it on this
machine alone, with a small model that is part of Tandem:

  tandem up

On several machines, one line each, and a gateway on one of them:

  tandem node --listen 10.0.0.1:52415 --insecure
  tandem node --listen 10.0.0.2:52415 --insecure
  tandem gateway
  tandem load mlx-community/Qwen3-4B-4bit"""

EPILOG: Final = """\
settings: a flag wins over the environment (TANDEM_…), that over tandem.toml here,
that over tandem.toml in your configuration folder.

Commands that ask a node take the one of --node or TANDEM_NODE, else the one on this
machine at 127.0.0.1:52415, else one that mDNS finds.

exit codes: 0 done · 1 failed · 2 wrong use or settings · 3 nobody answers · 130 Ctrl-C"""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(describe_version())
        parser.exit()


def describe_version() -> str:
    """One line: Tandem's version and those of what decides what a model computes."""
    parts = [f"Python {platform.python_version()}"]
    for distribution in ("mlx", "mlx-lm", "grpcio"):
        try:
            parts.append(f"{distribution} {version(distribution)}")
        except PackageNotFoundError:
            parts.append(f"no {distribution}")
    return f"tandem {__version__} ({', '.join(parts)})"


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; every command sets ``run``."""
    parser = Parser(prog="tandem", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action=_Version, nargs=0, help="say which versions these are")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"tandem.cli.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=(module.__doc__ or "").strip())
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Parses and runs one command. Errors of ours become one line; a closed pipe downstream ends quietly."""
    try:
        parser = make_parser()
        if not arguments:
            parser.print_help(sys.stderr)
            return WRONG_USE
        parsed = parser.parse_args(arguments)
        return int(parsed.run(parsed))
    except TandemError as error:
        return fail(error)
    except BrokenPipeError:
        # What is left in the buffer must not fail once more when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
