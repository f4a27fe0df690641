"""How the text of a setting is read: sizes, addresses, switches, lists. What does not fit is a ``ValueError``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

_UNITS: Final = {"": 1, "b": 1} | {
    name: base**power
    for power, letter in enumerate("kmgt", start=1)
    for name, base in ((letter, 1000), (letter + "b", 1000), (letter + "ib", 1024))
}
_SWITCHES: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def parse_size(value: object) -> int:
    """Bytes of ``"12GB"`` (10⁹ each), ``"12GiB"`` (2³⁰ each), ``"1.5 TB"`` or a plain number; never zero."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,18})?) *([a-z]*)", str(value).strip().lower(), re.ASCII)
        if match is None or match[2] not in _UNITS:
            raise ValueError(f"{value!r} is not a size like 12GB or 900MiB")
        unit = _UNITS[match[2]]
        size = int(match[1]) * unit if match[1].isdigit() else int(float(match[1]) * unit)
    if size <= 0:
        raise ValueError(f"{value!r} is not more than nothing")
    return size


def split_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 host stands in brackets, which are taken off."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets, like [::1]:52415")
    if not colon or not host or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """``host:port``, with brackets about an IPv6 host: what ``split_address`` takes apart."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host without brackets is this machine alone; of names, only localhost is."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def text(value: object) -> str:
    """A text with something in it, without the space about it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is not a text")
    return value.strip()


def switch(value: object) -> bool:
    """True or false, also as 1/0, yes/no, on/off."""
    answer = value if isinstance(value, bool) else _SWITCHES.get(str(value).strip().lower())
    if answer is None:
        raise ValueError(f"{value!r} is neither true nor false")
    return answer


def count(value: object) -> int:
    """A whole number above zero."""
    digits = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,18}", digits, re.ASCII) or int(digits) == 0:
        raise ValueError(f"{value!r} is not a whole number above 0")
    return int(digits)


def address(value: object) -> str:
    """``HOST:PORT``, as ``join_address`` writes it."""
    return join_address(*split_address(text(value)))


def path(value: object) -> Path:
    """A path; ``~`` is the user's home."""
    return value if isinstance(value, Path) else Path(text(value)).expanduser()


def choice(*words: str) -> Callable[[object], str]:
    """Reads one of the words, in any case."""

    def parse(value: object) -> str:
        word = text(value).lower()
        if word not in words:
            raise ValueError(f"{value!r} is none of {', '.join(words)}")
        return word

    return parse


def several(parse: Callable[[object], T], separator: str = ",") -> Callable[[object], tuple[T, ...]]:
    """Reads a list, or a text with separators between; empty places are left out."""

    def parse_all(value: object) -> tuple[T, ...]:
        items = value.split(separator) if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ValueError(f"{value!r} is not a list")
        return tuple(parse(item) for item in items if not (isinstance(item, str) and not item.strip()))

    return parse_all
