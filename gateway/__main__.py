"""``python -m gateway``: what ``tandem gateway`` does, by another way in."""

from __future__ import annotations

import sys

from tandem import daemon
from tandem.settings import GatewaySettings


def serve(settings: GatewaySettings) -> None:
    """Runs the gateway until it is told to end; see ``gateway.server.run``, imported once the settings are right."""
    from gateway.server import run

    run(settings)


def main() -> int:
    """Runs the gateway with the settings of the command line, the environment and the files; the exit code."""
    return daemon.main("gateway", GatewaySettings, serve)


if __name__ == "__main__":
    sys.exit(main())
