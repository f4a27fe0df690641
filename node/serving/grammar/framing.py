"""One grammar in the making: calls with what the format writes round them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from node.serving.grammar import patterns
from node.serving.grammar.arguments import arguments
from node.serving.grammar.lark import Lark, choice, escape, join, optional, regex, repeat
from node.serving.grammar.leaves import Leaves
from node.serving.grammar.nodes import Member, Never, Object, Schema, Text
from node.serving.grammar.schema import read_schema
from node.serving.grammar.values import JSON, Values
from parsers.format import Format, JsonCall, Wire
from parsers.quoting import quote
from parsers.schema import ToolSchema
from tandem.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Custom:
    """The syntax of a custom tool's one string parameter, ``input``: any text, a regular expression, or Lark."""

    syntax: Literal["text", "regex", "lark"]
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called.

    ``parameters_json`` is its schema, verbatim; one without takes no arguments. ``strict`` changes nothing: every
    schema is held to as closely as can be.
    """

    name: str
    parameters_json: str = ""
    strict: bool = False
    custom: Custom | None = None


Manner = Literal["exact", "begun", "beside"]
"""Whether a call is written as the wire says; or may have been begun by the model, with white space of its own; or in
lexemes that are those of other JSON, where a call may stand in place of any."""

_NO_ARGUMENTS = '{"type": "object", "properties": {}}'
_CUSTOM = '{"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}'
_IMPOSSIBLE = "tool {!r}: nothing can satisfy the schema of its parameters"
_INDEX = "0|[1-9][0-9]{0,4}"
_PLACEHOLDER = re.compile(r"(\{index\}|\{id\})")
_LEXEMES = re.compile(r'"(?:[^"\\]|\\.)*"(?:: )?|, |\s+|.', re.DOTALL)
_BLANK = r"[\x{20}\t\r\n]{0,16}"


class Sheet:
    """Writes the parts of one grammar.

    Args:
        spec: the format.
        lark: where the rules go.
        validate, careful: as for `Leaves`.
    """

    def __init__(self, spec: Format, lark: Lark, validate: Callable[[str], str], *, careful: bool) -> None:
        self._spec = spec
        self.lark = lark
        self._validate = validate
        self._careful = careful
        self._arguments: dict[tuple[str, str, tuple[str, ...]], str] = {}
        self._schemas: dict[str, Schema] = {}
        self.warnings: list[str] = []

    def block(
        self, wire: Wire, tools: Sequence[Tool], *, several: bool, cut: str = "", manner: Manner = "exact"
    ) -> str:
        """Calls with what the wire writes round them all, from behind `cut` on, which opening and head begin with."""
        first = self._calls(wire, (wire.opening + wire.head)[len(cut) :], tools, manner)
        if not several:
            return join(first, self.lark.text(wire.closing))
        more = self._calls(wire, wire.separator + wire.head, tools, "exact")
        return join(first, repeat(more, 0, None), self.lark.text(wire.closing))

    def answer(self, wire: Wire, schema_json: str | None) -> str:
        """JSON of a schema in the format's frame for answers."""
        schema = read_schema(schema_json or '{"type": "object"}', root_object=False)
        if isinstance(schema.root, Never):
            raise InvalidRequestError("response_format: nothing can satisfy the schema", param="response_format")
        leaves = self._leaves("response_format", schema)
        value = Values(self.lark, schema, JSON, leaves).value(schema.root)
        frame, close = wire.answer
        before = self.lark.text(frame.lstrip(" "))
        # What the parser drops may be missing: the prompt may have written it.
        ways = [optional(before) if frame in self._spec.dropped else before]
        for lead in wire.lead if frame else ():
            if lead not in self._spec.openers and frame not in lead and not (close and close in lead):
                ways.append(self.lark.text(lead + frame))
        self._collect(leaves)
        return join(choice(ways), value, optional(self.lark.text(close)))

    def _calls(self, wire: Wire, head: str, tools: Sequence[Tool], manner: Manner) -> str:
        """A call of one of the tools, behind `head`."""
        bare = wire.style == "json" and re.match(r"\s*\[?{", wire.opening + wire.head) is not None
        if "{name}" in head or (bare and manner != "exact"):
            if not bare:
                manner = "exact"
            ways = [self._call(wire, head.replace("{name}", tool.name), tool, manner) for tool in tools]
            return self.lark.rule(choice(ways))
        return join(
            self._exact(wire, head), self.lark.rule(choice([self._call(wire, "", one, "exact") for one in tools]))
        )

    def _call(self, wire: Wire, head: str, tool: Tool, manner: Manner) -> str:
        quoted = wire.style == "json" and wire.head.endswith('"')
        text = head + (quote(tool.name)[1:-1] if quoted else tool.name) + wire.middle
        if manner == "beside":
            start = join(*(self._exact(wire, lexeme) for lexeme in _LEXEMES.findall(text)))
        elif manner == "begun":
            start = self.lark.terminal(regex(self._loosely(wire, text)))
        else:
            start = self._exact(wire, text)
        return join(start, self._arguments_of(wire, tool), self._exact(wire, wire.tail))

    def _exact(self, wire: Wire, text: str) -> str:
        """A text of the wire with its placeholders filled."""
        known = {"{index}": _INDEX, "{id}": wire.identifier}
        parts = _PLACEHOLDER.split(text)
        return join(*(self.lark.terminal(regex(known[one])) if one in known else self.lark.text(one) for one in parts))

    def _loosely(self, wire: Wire, text: str) -> str:
        """The beginning of a bare JSON call as models write it: with any white space, under any of its keys."""
        known = {"{index}": f"(?:{_INDEX})", "{id}": wire.identifier}
        keys = {key for one in self._spec.states.values() if isinstance(one, JsonCall) for key in one.arguments}
        parts: list[str] = []
        for lexeme in _LEXEMES.findall(text):
            name = lexeme.removesuffix(": ").strip('"')
            if lexeme.endswith('": ') and name in keys and len(keys) > 1:
                parts.append("(?:" + "|".join(f'"{escape(key)}"' for key in sorted(keys)) + ")" + _BLANK + ":")
            elif lexeme.endswith('": '):
                parts.append(escape(lexeme[:-2]) + _BLANK + ":")
            elif lexeme.strip():
                bits = _PLACEHOLDER.split(lexeme.strip())
                parts.append("".join(known.get(bit) or escape(bit) for bit in bits))
            if parts and lexeme == "{":
                parts.append(f'(?:{_BLANK}"type"{_BLANK}:{_BLANK}"function"{_BLANK},)?')
        return _BLANK.join(parts) + _BLANK

    def _arguments_of(self, wire: Wire, tool: Tool) -> str:
        key = (tool.name, wire.style, wire.parameter)
        if key not in self._arguments:
            self._arguments[key] = self._write_arguments(wire, tool)
        return self._arguments[key]

    def _write_arguments(self, wire: Wire, tool: Tool) -> str:
        if tool.custom is not None:
            return self._write_custom(wire, tool, tool.custom)
        schema = self._schema(tool)
        if isinstance(schema.root, Never):
            self.warnings.append(_IMPOSSIBLE.format(tool.name))
            schema = read_schema('{"type": "object"}')
        return self._write_schema(wire, tool, tool.parameters_json or _NO_ARGUMENTS, schema)

    def _schema(self, tool: Tool) -> Schema:
        if tool.name not in self._schemas:
            self._schemas[tool.name] = read_schema(tool.parameters_json or _NO_ARGUMENTS)
        return self._schemas[tool.name]

    def callable_tools(self, tools: Sequence[Tool]) -> list[Tool]:
        """The tools for which there are arguments at all; the others get a warning."""
        found = [tool for tool in tools if tool.custom or not isinstance(self._schema(tool).root, Never)]
        self.warnings.extend(_IMPOSSIBLE.format(tool.name) for tool in tools if tool not in found)
        return found

    def _write_schema(self, wire: Wire, tool: Tool, text: str, schema: Schema) -> str:
        leaves = self._leaves(f"tool {tool.name!r}", schema)
        written = arguments(self._spec, wire, self.lark, schema, leaves, ToolSchema(text).types)
        self._collect(leaves)
        return self.lark.rule(written) if written else ""

    def _write_custom(self, wire: Wire, tool: Tool, custom: Custom) -> str:
        node, label = Text(), f"tool {tool.name!r}"
        if custom.syntax == "regex":
            try:
                node = Text(patterns=(patterns.whole(custom.definition),), where="input")
            except patterns.PatternError as error:
                raise InvalidRequestError(f"{label}: the regular expression has {error}", param="tools") from None
        elif custom.syntax == "lark" and wire.style == "parameters":
            opened, middle, close = wire.parameter
            middle = middle.replace("{string}", "true").replace("{type}", "string")
            nested = self.lark.rule(f"%lark {{\n{custom.definition}\n}}")
            return join(self.lark.text(f"{opened}input{middle}"), nested, self.lark.text(close))
        elif custom.syntax == "lark":
            self.warnings.append(f"{label}: this model writes arguments as JSON, so that its grammar is not enforced")
        return self._write_schema(wire, tool, _CUSTOM, Schema(Object((Member("input", node, True),)), {}))

    def _leaves(self, label: str, schema: Schema) -> Leaves:
        self.warnings.extend(f"{label}: {warning}" for warning in schema.warnings)
        return Leaves(self.lark, self._validate, label, careful=self._careful)

    def _collect(self, leaves: Leaves) -> None:
        self.warnings.extend(leaves.warnings)
