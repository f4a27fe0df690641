"""The ``tandem`` command. Nothing heavy is imported here, so that Ctrl-C and an old Python find ``main`` ready."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

OLDEST_PYTHON = (3, 11)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors are one line on stderr, Ctrl-C none."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        sys.stderr.write(f"tandem: needs Python 3.11 or newer, this is {sys.version.split()[0]} ({sys.executable})\n")
        return 1
    try:
        from tandem.cli.application import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return 130
