"""One call while it is being read: its name, its arguments, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from parsers import schema
from parsers.output import ARGUMENTS, Output
from parsers.quoting import quote
from parsers.schema import ToolSchema


@dataclass(slots=True)
class Rules:
    """When a name makes a call."""

    # The request's tools, and whether calls are wanted at all.
    tools: Mapping[str, ToolSchema]
    wanted: bool
    # An undeclared name never makes one.
    declared_only: bool
    # The place is one for calls: not a thought, nor inside another call's arguments, where a name must be declared.
    sure: bool
    # There was no marker, so that an undeclared name makes one only if the whole answer is calls.
    bare: bool


class Call:
    """Writes one call's events. The arguments that come before the name wait for it."""

    __slots__ = ("_early", "_keys", "_output", "_rules", "call_id", "deferred", "key", "name", "started", "warnings")

    def __init__(self, rules: Rules, output: Output) -> None:
        self._rules = rules
        self._output = output
        self._early: list[str] = []
        self._keys: set[str] = set()
        self.name = ""
        self.call_id: str | None = None
        # The parameter that is being read.
        self.key = ""
        self.started = False
        # Its events are kept back until it is known whether the whole answer is calls.
        self.deferred = False
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Remember what is wrong with the call."""
        if text not in self.warnings:
            self.warnings.append(text)

    def types(self, path: tuple[str, ...]) -> frozenset[str]:
        """The JSON types that the tool's schema gives the value at `path`."""
        tool = self._rules.tools.get(self.name)
        return tool.types(path) if tool is not None else frozenset()

    def types_of(self, key: str) -> frozenset[str]:
        """The JSON types that the tool's schema gives a parameter."""
        return self.types((key,))

    def awaits(self, key: str) -> bool:
        """Whether the tool has a parameter of this name that has not been given."""
        tool = self._rules.tools.get(self.name)
        return tool is not None and tool.declares(key) and key not in self._keys

    def names(self) -> list[str]:
        """The tool's parameters in their order."""
        tool = self._rules.tools.get(self.name)
        return tool.names() if tool is not None else []

    def ready(self) -> bool:
        """The header is complete: whether it makes a call."""
        rules, name = self._rules, self.name
        if not name or not rules.wanted:
            return False
        return name in rules.tools or (
            rules.sure and not rules.declared_only and not any(char.isspace() for char in name)
        )

    def start(self) -> None:
        """Say that the call begins, and write the arguments that were waiting for its name."""
        rules, name = self._rules, self.name
        if name not in rules.tools:
            self.warn(f"the tool {name!r} is not declared")
            if rules.bare and not self.deferred:
                self.deferred = True
                self._output.shelve()
        rules.sure = True
        self._output.start(name, self.call_id)
        self.started = True
        early, self._early = self._early, []
        self.write(early)

    def write(self, parts: list[str]) -> None:
        """Add to the arguments."""
        if self.started:
            for part in parts:
                self._output.put(ARGUMENTS, part)
        else:
            self._early.extend(parts)

    def begin_parameter(self) -> None:
        """Write the key of a parameter that stands on its own."""
        self.write([("{" if not self._keys else ", ") + quote(self.key) + ": "])
        self._keys.add(self.key)

    def end(self) -> None:
        """The call is complete, as far as it goes."""
        if self._keys:
            self.write(["}"])
        arguments = self._output.arguments()
        if not arguments.strip():
            arguments = "{}"
            self.write([arguments])
        elif not schema.is_json(arguments):
            self.warn("the arguments are not valid JSON")
        elif not arguments.lstrip().startswith("{"):
            self.warn("the arguments are no object")
        self._finish(arguments)

    def cut(self) -> None:
        """The token limit ended the call: what was written stays as it is."""
        self.warn("the call was cut off by the token limit")
        self._finish(self._output.arguments())

    def _finish(self, arguments: str) -> None:
        unknown = self.name not in self._rules.tools
        if self.deferred and len(self.warnings) > unknown:
            self._output.spoilt = True
        self._output.end(arguments, "; ".join(self.warnings) or None, self.call_id)
        self.started = False
