"""``python -m node``: the node daemon, with the settings of ``tandem node``."""

from __future__ import annotations

import argparse
import sys

from node import daemon
from tandem.errors import SettingsError
from tandem.settings import NodeSettings, add_flags, given_flags, load_settings


def main() -> int:
    """Reads the settings and runs the daemon; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m node", description="The Tandem node daemon.")
    add_flags(parser, NodeSettings)
    arguments = parser.parse_args()
    try:
        settings = load_settings(NodeSettings, given_flags(arguments, NodeSettings))
    except SettingsError as error:
        sys.stderr.write(f"tandem node: {error.message}\n")
        return 2
    return daemon.run(settings)


if __name__ == "__main__":
    sys.exit(main())
