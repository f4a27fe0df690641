"""What every command line of Tandem shares: how it takes arguments, and how its errors end."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final, NoReturn

from tandem.errors import SettingsError, TandemError, UnavailableError

FAILED: Final = 1
WRONG_USE: Final = 2
NO_ANSWER: Final = 3
INTERRUPTED: Final = 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that says where to read on."""

    def __init__(self, **about: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **about)

    def error(self, message: str) -> NoReturn:
        """Ends the process with one line and the code for wrong use."""
        self.exit(WRONG_USE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parses; what it does not know is an error of this very command, not of the one above it."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


def fail(error: TandemError) -> int:
    """Writes an error as one line on stderr; the exit code for it."""
    sys.stderr.write(f"tandem: {' '.join(error.message.split())}\n")
    match error:
        case SettingsError():
            return WRONG_USE
        case UnavailableError():
            return NO_ANSWER
        case _:
            return FAILED
