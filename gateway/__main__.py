"""``python -m gateway``: a gateway with the settings of the environment, the files and these flags."""

from __future__ import annotations

import argparse
import logging
import sys

from gateway.server import run
from tandem.errors import TandemError
from tandem.settings import GatewaySettings, add_flags, given_flags, load_settings
from tandem.version import __version__


def main() -> int:
    """Serves until told to stop; 2 for settings that do not fit, with one line that says why."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Serves a Tandem cluster over HTTP.")
    parser.add_argument("--version", action="version", version=__version__)
    add_flags(parser, GatewaySettings)
    arguments = parser.parse_args()
    try:
        settings = load_settings(GatewaySettings, given_flags(arguments, GatewaySettings))
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
        run(settings)
    except TandemError as error:
        sys.stderr.write(f"gateway: {error.message}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
