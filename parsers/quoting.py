"""Text as a JSON string: as it is where an encoding can carry it."""

import re
from json.encoder import encode_basestring

_SURROGATE = re.compile("[\ud800-\udfff]")


def escape(text: str) -> str:
    """Text as it stands between the quotes of a JSON string; surrogates, which no encoding carries, as escapes."""
    return quote(text)[1:-1]


def quote(text: str) -> str:
    """Text as a JSON string."""
    quoted = encode_basestring(text)
    if text.isascii():
        return quoted
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
