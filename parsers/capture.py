"""Names, identifiers and keys as they stand between markers: what may be one, and what is part of the notation."""

import re
from collections.abc import Collection

from parsers.format import Capture

_NOT_AN_IDENTIFIER = re.compile(r"[^\w.\-]")


def may_be(state: Capture, text: str, whole: bool, tools: Collection[str]) -> bool:
    """Whether the text is what is to be captured or, unless it is `whole`, may still become it."""
    if state.what != "name":
        return True
    if state.identifier and _NOT_AN_IDENTIFIER.search(text):
        return False
    if not state.declared or (whole and text in tools):
        return True
    return not whole and any(name.startswith(text) or text.startswith(name) for name in tools)


def bare_name(state: Capture, text: str, tools: Collection[str]) -> str:
    """The tool's name in the text, without what the notation adds to it."""
    if state.numbered:
        name, colon, number = text.rpartition(":")
        text = name if colon and number.isdigit() else text
    name = text.removeprefix(state.prefix).removesuffix(state.suffix)
    half = name[: len(name) // 2]
    if state.doubled and name == f"{half}.{half}" and name not in tools and half in tools:
        return half
    return name
