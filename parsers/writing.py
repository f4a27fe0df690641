"""Tool calls back to text, as the model would have written them."""

import json
from collections.abc import Iterable
from typing import Any

from parsers.format import Format
from parsers.quoting import quote
from parsers.schema import type_of


def write_calls(spec: Format, calls: Iterable[tuple[str, str]]) -> str:
    """The text of one turn's calls: names, and arguments as the JSON text of an object.

    Raises ValueError if arguments are no JSON object and the format cannot carry them verbatim.
    """
    wire = spec.wire
    written = [_write_call(spec, index, name, arguments) for index, (name, arguments) in enumerate(calls)]
    return wire.opening + wire.separator.join(written) + wire.closing if written else ""


def _write_call(spec: Format, index: int, name: str, arguments: str) -> str:
    wire = spec.wire
    if wire.style == "json":
        body = arguments or "{}"
    else:
        # Numbers stay the digits that they are.
        values = json.loads(arguments or "{}", parse_int=_Digits, parse_float=_Digits)
        if not isinstance(values, dict):
            raise ValueError("the arguments are not an object")
        if wire.style == "python":
            body = ", ".join(f"{key}={_python(value)}" for key, value in values.items())
        elif wire.style == "braces":
            body = _braces(values, wire.quote)
        elif wire.style == "elements":
            body = "".join(_element(key, value, wire) for key, value in values.items())
        else:
            body = "".join(_parameter(key, value, wire.parameter) for key, value in values.items())
    head, middle, tail = (
        part.replace("{index}", str(index)).replace("{id}", f"call{index:05d}").replace("{name}", name)
        for part in (wire.head, wire.middle, wire.tail)
    )
    return head + name + middle + body + tail


class _Digits(str):
    """A number as it was written."""

    __slots__ = ()


def _json(value: Any) -> str:
    if isinstance(value, _Digits):
        return str(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(key)}: {_json(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return json.dumps(value)


def _python(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(key)}: {_python(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_python, value)) + "]"
    return _json(value)


def _braces(value: Any, mark: str) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_braces(one, mark)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_braces(one, mark) for one in value) + "]"
    if isinstance(value, str) and not isinstance(value, _Digits):
        return mark + value + mark
    return _json(value)


def _raw(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _parameter(key: str, value: Any, parts: tuple[str, str, str]) -> str:
    text = isinstance(value, str) and not isinstance(value, _Digits)
    kind = "string" if text else "number" if isinstance(value, _Digits) else type_of(value)
    between = parts[1].replace("{string}", "true" if text else "false").replace("{type}", kind)
    return parts[0] + key + between + _raw(value) + parts[2]


def _element(key: str, value: Any, wire: Any) -> str:
    mark = wire.quote
    if isinstance(value, dict):
        body = "".join(_element(name, one, wire) for name, one in value.items())
    elif isinstance(value, list):
        body = "".join(_element("item", one, wire) for one in value)
    else:
        body = _raw(value)
    return f"{mark}<{key}>{body}{mark}</{key}>"
