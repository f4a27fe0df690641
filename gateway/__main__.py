"""``python -m gateway``: a gateway with the settings of the environment, the files and these flags."""

from __future__ import annotations

import argparse
import logging
import sys

from gateway.server import run
from tandem.errors import TandemError
from tandem.settings import GatewaySettings, flag_of, load_settings, settings_of
from tandem.version import __version__


def main() -> int:
    """Serves until told to stop; 2 for settings that do not fit, with one line that says why."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Serves a Tandem cluster over HTTP.")
    parser.add_argument("--version", action="version", version=__version__)
    for key, setting in settings_of(GatewaySettings).items():
        flag = flag_of(key, setting)
        if key == "mdns":
            parser.add_argument("--no-mdns", dest=key, action="store_false", default=None, help="do not look for nodes")
        elif setting.metavar is None:
            parser.add_argument(flag, dest=key, action="store_true", default=None, help=setting.help)
        elif key in ("nodes", "api_keys"):
            parser.add_argument(flag, dest=key, action="append", metavar=setting.metavar, help=setting.help)
        else:
            parser.add_argument(flag, dest=key, metavar=setting.metavar, help=setting.help)
    try:
        settings = load_settings(GatewaySettings, vars(parser.parse_args()))
        logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
        run(settings)
    except TandemError as error:
        sys.stderr.write(f"gateway: {error.message}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
