"""Bare words of loose notations as JSON: numbers, truth values, nothing; anything else is a string."""

from parsers import schema
from parsers.quoting import quote

_CONSTANTS = {"true": "true", "false": "false", "none": "null", "null": "null", "nil": "null"}


def word(text: str, types: frozenset[str]) -> str:
    """The word as JSON. Where the schema allows only strings it is one."""
    text = text.strip()
    if types == {"string"}:
        return quote(text)
    constant = _CONSTANTS.get(text.lower())
    if constant is not None:
        return constant
    return number(text) or quote(text)


def number(text: str) -> str | None:
    """The text as a JSON number, whatever notation Python allows; None if it is none."""
    plain = schema.number(text)
    if plain is not None:
        return plain
    bare = text.replace("_", "")
    if bare.lower().lstrip("+-")[:2] in ("0x", "0o", "0b"):
        try:
            return str(int(bare, 0))
        except ValueError:
            return None
    mantissa, mark, exponent = bare.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, point, part = mantissa.lstrip("+-").partition(".")
    if not (whole + part).isdigit() or not (whole + part).isascii():
        return None
    return schema.number(sign + (whole or "0") + (point + (part or "0") if point else "") + mark + exponent)
