"""``python -m node``: what ``tandem node`` does, by another way in."""

from __future__ import annotations

import sys

from tandem import daemon
from tandem.settings import NodeSettings


def serve(settings: NodeSettings) -> None:
    """Runs the daemon until it is told to end; see ``node.daemon.run``, imported once the settings are right."""
    from node.daemon import run

    run(settings)


def main() -> int:
    """Runs the daemon with the settings of the command line, the environment and the files; the exit code."""
    return daemon.main("node", NodeSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
