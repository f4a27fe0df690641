"""Typed reading of the members of a JSON object; what does not fit is a 400 that names the member."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from tandem.errors import InvalidRequestError

MAX_UINT32: Final = 2**32 - 1

_NAMES: Final = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


class Fields:
    """A JSON object and where it stands in the body (``path``, empty for the body itself).

    The readers return None for a member that is absent or null and raise ``InvalidRequestError`` with ``param`` set
    for one that has the wrong type or lies out of bounds.
    """

    def __init__(self, value: Mapping[str, Any], path: str = "") -> None:
        self.value = value
        self.path = path

    def at(self, name: str) -> str:
        """Where a member stands, as clients are told: ``messages[0].content``."""
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        """The member as it is."""
        return self.value.get(name)

    def has(self, name: str) -> bool:
        """Whether the member is there and not null."""
        return self.value.get(name) is not None

    def boolean(self, name: str) -> bool | None:
        """A boolean."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, bool):
            raise wrong_type(self.at(name), "a boolean", value)
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds, both included."""
        value = self.value.get(name)
        if value is None:
            return None
        if type(value) is not int:
            raise wrong_type(self.at(name), "an integer", value)
        if not low <= value <= high:
            raise out_of_bounds(self.at(name), low, high)
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within bounds, both included."""
        value = self.value.get(name)
        if value is None:
            return None
        if type(value) not in (int, float):
            raise wrong_type(self.at(name), "a number", value)
        if not low <= value <= high:
            raise out_of_bounds(self.at(name), low, high)
        return float(value)

    def string(self, name: str) -> str | None:
        """A string."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, str):
            raise wrong_type(self.at(name), "a string", value)
        return value

    def required_string(self, name: str) -> str:
        """A string that must be there and not be empty."""
        value = self.string(name)
        if value is None:
            raise missing(self.at(name))
        if not value:
            raise invalid(self.at(name), f"'{self.at(name)}' must not be empty.")
        return value

    def word(self, name: str, words: Collection[str]) -> str | None:
        """One of the words."""
        value = self.string(name)
        if value is not None and value not in words:
            raise invalid(self.at(name), f"'{self.at(name)}' must be one of {', '.join(sorted(words))}.")
        return value

    def array(self, name: str, most: int | None = None) -> list[Any] | None:
        """An array, of up to ``most`` items where that is given."""
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise wrong_type(self.at(name), "an array", value)
        if most is not None and len(value) > most:
            raise invalid(self.at(name), f"'{self.at(name)}' may hold up to {most} items, got {len(value)}.")
        return value

    def object(self, name: str) -> Fields | None:
        """An object, to be read in turn."""
        value = self.value.get(name)
        return None if value is None else as_object(value, self.at(name))

    def required_object(self, name: str) -> Fields:
        """An object that must be there."""
        found = self.object(name)
        if found is None:
            raise missing(self.at(name))
        return found


def as_object(value: object, path: str) -> Fields:
    """``value`` as an object that stands at ``path``; else ``InvalidRequestError``."""
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    return Fields(value, path)


def wrong_type(path: str, wanted: str, value: object) -> InvalidRequestError:
    """The error for a value of the wrong JSON type."""
    got = _NAMES.get(type(value), "a number")
    return InvalidRequestError(
        f"Invalid type for '{path}': expected {wanted}, but got {got} instead.", param=path, code="invalid_type"
    )


def out_of_bounds(path: str, low: float, high: float) -> InvalidRequestError:
    """The error for a number that is too small or too large."""
    return invalid(path, f"'{path}' must be between {low} and {high}.")


def missing(path: str) -> InvalidRequestError:
    """The error for something that must be there."""
    return InvalidRequestError(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")


def invalid(path: str, message: str) -> InvalidRequestError:
    """The error for a value that does not fit, in words of its own."""
    return InvalidRequestError(message, param=path, code="invalid_value")


def unsupported(path: str, message: str, code: str = "unsupported_parameter") -> InvalidRequestError:
    """The error for what is right in itself and not served here."""
    return InvalidRequestError(message, param=path, code=code)
