"""Custom tools: their input is a text, free or under a grammar. A model sees a function with one string parameter."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from gateway.openai.fields import Fields, missing
from gateway.openai.schemas import read_tool_name
from tandem.v1 import generation_pb2

INPUT: Final = "input"
"""The parameter's name."""

_SYNTAXES: Final = {
    "regex": generation_pb2.CUSTOM_SYNTAX_REGEX,
    "lark": generation_pb2.CUSTOM_SYNTAX_LARK,
}
_ADVICE: Final = {
    "regex": "The whole text matches this regular expression:\n",
    "lark": "The text follows this grammar in Lark:\n",
}
_OPENING: Final = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')
_SQUEEZED: Final = f'{{"{INPUT}":"'
_STOP: Final = re.compile(r'["\\]')
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def read_custom(custom: Fields) -> generation_pb2.Tool:
    """A custom tool, declared as the function that a model sees.

    Its format is ``text`` or a ``grammar`` in ``regex`` or ``lark``. What OpenAI's Responses API writes, with the
    grammar's members beside the format's type, is understood too.
    """
    tool = generation_pb2.Tool(
        name=read_tool_name(custom), description=custom.string("description") or "", custom=_read_format(custom)
    )
    parameter: dict[str, Any] = {"type": "string"}
    if tool.custom.definition:
        syntax = next(word for word, value in _SYNTAXES.items() if value == tool.custom.syntax)
        parameter["description"] = _ADVICE[syntax] + tool.custom.definition
    schema = {
        "type": "object",
        "properties": {INPUT: parameter},
        "required": [INPUT],
        "additionalProperties": False,
    }
    tool.parameters_json = json.dumps(schema, ensure_ascii=False)
    return tool


def _read_format(custom: Fields) -> generation_pb2.CustomInput:
    wanted = custom.object("format")
    if wanted is None:
        return generation_pb2.CustomInput()
    kind = wanted.word("type", ("text", "grammar"))
    if kind is None:
        raise missing(wanted.at("type"))
    if kind == "text":
        return generation_pb2.CustomInput()
    grammar = wanted.object("grammar") or wanted
    syntax = grammar.word("syntax", tuple(_SYNTAXES))
    if syntax is None:
        raise missing(grammar.at("syntax"))
    return generation_pb2.CustomInput(syntax=_SYNTAXES[syntax], definition=grammar.required_string("definition"))


def arguments_of(text: str) -> str:
    """The arguments of the function's call for an input."""
    return json.dumps({INPUT: text}, ensure_ascii=False)


class CustomInput:
    """Decodes the input of one custom call out of the function's arguments, piece by piece.

    Arguments that are no object with the input first are passed on as they are.
    """

    def __init__(self) -> None:
        self._opening = ""
        self._verbatim = False
        self._inside = False
        self._over = False
        # An escape that has only begun, and the first half of a surrogate pair.
        self._escape = ""
        self._half = ""

    def feed(self, arguments: str) -> str:
        """Takes a piece of the arguments; the text that it adds to the input."""
        if self._verbatim:
            return arguments
        if self._inside:
            return self._decode(arguments)
        self._opening += arguments
        found = _OPENING.match(self._opening)
        if found is not None:
            self._inside = True
            return self._decode(self._opening[found.end() :])
        squeezed = "".join(self._opening.split())
        if squeezed == "{}":
            self._inside = self._over = True
        elif len(squeezed) >= len(_SQUEEZED) or not _SQUEEZED.startswith(squeezed):
            self._verbatim = True
            return self._opening
        return ""

    def finish(self) -> str:
        """What was held back: the arguments are over."""
        return self._half_gone()

    def _decode(self, text: str) -> str:
        parts: list[str] = []
        at = 0
        while at < len(text) and not self._over:
            if self._escape:
                self._escape += text[at]
                at += 1
                parts.append(self._unescape())
                continue
            stop = _STOP.search(text, at)
            end = stop.start() if stop is not None else len(text)
            if end > at:
                parts += [self._half_gone(), text[at:end]]
            at = end + 1
            if stop is not None and stop[0] == "\\":
                self._escape = "\\"
            elif stop is not None:
                self._over = True
        return "".join(parts)

    def _unescape(self) -> str:
        """The character of the escape, once it is whole."""
        escape = self._escape
        if escape[1] != "u":
            self._escape = ""
            return self._half_gone() + _ESCAPES.get(escape[1], escape[1])
        if len(escape) < 6:
            return ""
        self._escape = ""
        try:
            unit = chr(int(escape[2:], 16))
        except ValueError:
            return self._half_gone() + escape
        if self._half and "\udc00" <= unit <= "\udfff":
            pair, self._half = self._half + unit, ""
            return pair.encode("utf-16", "surrogatepass").decode("utf-16")
        before = self._half_gone()
        if "\ud800" <= unit <= "\udbff":
            self._half = unit
            return before
        return before + ("\ufffd" if "\udc00" <= unit <= "\udfff" else unit)

    def _half_gone(self) -> str:
        """A character in place of half a pair whose other half does not come."""
        half, self._half = self._half, ""
        return "\ufffd" if half else ""
