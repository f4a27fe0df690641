"""Settings as flags of a command line, made from the same fields, so that no name is written twice."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any, get_origin, get_type_hints

from tandem.settings.schema import flag_of, settings_of


def add_flags(parser: argparse.ArgumentParser, kind: type[Any], only: Collection[str] | None = None) -> None:
    """Adds one flag per setting of a kind of process (of those named in ``only``), under the field's name.

    Flags that are not given are ``None``; ``load_settings`` reads and checks the texts of the others.
    """
    hints = get_type_hints(kind)
    group = parser.add_argument_group("settings", "Without a flag: the variable in brackets, tandem.toml, the default.")
    for key, setting in settings_of(kind).items():
        if only is not None and key not in only:
            continue
        about: dict[str, Any] = {"dest": key, "default": None, "help": f"{setting.help} [{setting.env}]"}
        if hints[key] is bool:
            about["action"] = argparse.BooleanOptionalAction
        else:
            about["metavar"] = setting.metavar
        if get_origin(hints[key]) is tuple:
            about["action"] = "append"
        group.add_argument(flag_of(key, setting), **about)


def given_flags(arguments: argparse.Namespace, kind: type[Any]) -> dict[str, Any]:
    """What the parsed arguments say about the settings of one kind of process: the ``flags`` of ``load_settings``."""
    return {key: getattr(arguments, key, None) for key in settings_of(kind)}
