"""Where settings come from: flags over environment over the two files over defaults, each checked by name."""

from __future__ import annotations

import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from tandem.errors import SettingsError
from tandem.settings.schema import (
    MODEL_VARIABLE,
    SECTIONS,
    GatewaySettings,
    NodeSettings,
    Setting,
    flag_of,
    settings_of,
)

FILE_NAME: Final = "tandem.toml"
PREFIX: Final = "TANDEM_"

Settings = TypeVar("Settings", NodeSettings, GatewaySettings)


def config_dir() -> Path:
    """Where this user's ``tandem.toml`` lies: ``$XDG_CONFIG_HOME/tandem``, else the platform's own place."""
    if folder := os.environ.get("XDG_CONFIG_HOME"):
        return Path(folder) / "tandem"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tandem"
    return Path.home() / ".config" / "tandem"


def load_settings(
    kind: type[Settings],
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folders: Iterable[Path] | None = None,
) -> Settings:
    """The settings of one kind of process; blocking (reads two small files).

    ``flags`` maps field names to texts or values, ``None`` meaning that the flag was not given. ``environ`` and
    ``folders`` stand in for the process environment and for (working folder, configuration folder). Whatever is
    present is checked, also what a better source hides: an unknown key or a value that does not fit raises
    ``SettingsError``, which names the key and the flag, variable or file.
    """
    known = settings_of(kind)
    values: dict[str, Any] = {}
    for folder in reversed(tuple(folders) if folders is not None else (Path.cwd(), config_dir())):
        values.update(_from_file(folder / FILE_NAME, kind))
    values.update(_from_environment(os.environ if environ is None else environ, known))
    for key, value in (flags or {}).items():
        if key not in known:
            raise SettingsError(_unknown(key, "the command line", known))
        if value is not None:
            values[key] = _parse(known[key], value, flag_of(key, known[key]))
    return kind(**values)


def _from_file(path: Path, kind: type[Any]) -> dict[str, Any]:
    """What one file says to one kind of process; the whole file is checked. A file that is not there says nothing."""
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    tables = {name: content.pop(name, {}) for name in SECTIONS}
    values: dict[str, Any] = {}
    for section, settings in SECTIONS.items():
        known = settings_of(settings)
        shared = {key: setting for key, setting in known.items() if setting.shared}
        table = tables[section]
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: {section!r} is a section, written [{section}]")
        found = {
            **_checked(content, shared, str(path), near=(*shared, *SECTIONS)),
            **_checked(table, known, f"{path} [{section}]", near=known),
        }
        if settings is kind:
            values = found
    return values


def _checked(table: Mapping[str, Any], known: Mapping[str, Setting], where: str, near: Iterable[str]) -> dict[str, Any]:
    for key in table:
        if key not in known:
            raise SettingsError(_unknown(key, where, near))
    return {key: _parse(known[key], value, f"{where}: {key}") for key, value in table.items()}


def _from_environment(environ: Mapping[str, str], wanted: Mapping[str, Setting]) -> Iterator[tuple[str, Any]]:
    known = {setting.env for settings in SECTIONS.values() for setting in settings_of(settings).values()}
    known.add(MODEL_VARIABLE)
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(_unknown(variable, "the environment", known))
    for key, setting in wanted.items():
        if environ.get(setting.env):
            yield key, _parse(setting, environ[setting.env], setting.env)


def _parse(setting: Setting, value: object, where: str) -> Any:
    try:
        return setting.parse(value)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None


def _unknown(key: str, where: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    return f"unknown setting {key!r} in {where}: {hint}"
