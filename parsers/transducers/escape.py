"""Text as the inside of a JSON string."""

from json.encoder import encode_basestring, encode_basestring_ascii


def escape(text: str) -> str:
    """Text as it stands between the quotes of a JSON string; surrogates, which no encoding carries, as escapes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return encode_basestring_ascii(text)[1:-1]
    return encode_basestring(text)[1:-1]
