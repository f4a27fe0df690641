"""Chat templates, run as transformers runs them, within bounds.

A template is a program that came with a checkpoint: it runs in jinja's sandbox, and none of its loops, texts and
lists can grow past the limits below. The environment (filters, globals, tags) is the one of transformers 5, so that a
template gives the same text; the clock is the request's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from datetime import datetime
from functools import wraps
from typing import Any, ClassVar, Final

import jinja2
from jinja2 import meta, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

SECONDS: Final = 10.0
"""How long one rendering may take: thousands of messages need a fraction of it."""
LARGEST: Final = 16 * 2**20
"""Characters, or members, that one value of a template, or its whole text, may have."""
LONGEST_TEMPLATE: Final = 2**20
"""Characters of a template. Real ones have up to 40,000."""
_LARGEST_NUMBER: Final = 2**63
_WIDEST: Final = 256
"""How far a text may be padded or indented."""
_TICKS: Final = 64
"""Steps between two looks at the clock."""
_COSTLY_FILTERS: Final = (
    *("batch", "center", "format", "indent", "join", "list", "map", "reject", "rejectattr", "replace", "reverse"),
    *("select", "selectattr", "slice", "sort", "string", "sum", "tojson", "truncate", "unique", "urlize", "wordwrap"),
)
_PADDING: Final = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "do_batch", "do_center", "do_indent", "do_slice", "_tojson"}
)
"""Methods and filters (by the names of jinja's functions) that take a width."""


class TemplateLimitError(jinja2.TemplateRuntimeError):
    """A template wanted more time or memory than there is for it."""


class ChatTemplate:
    """One compiled template; renders one conversation at a time.

    Args:
        source: jinja text. What is no template fails when it is rendered, as the client's error.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.variables: frozenset[str] = frozenset()
        """Names that the template expects to be given."""
        self._environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], cache_size=0
        )
        self._template: jinja2.Template | None = None
        self._error: Exception | None = None
        try:
            if len(source) > LONGEST_TEMPLATE:
                raise TemplateLimitError(f"the template is longer than {LONGEST_TEMPLATE} characters")
            self._template = self._environment.from_string(source)
            self.variables = frozenset(meta.find_undeclared_variables(self._environment.parse(source)))
        except Exception as error:  # noqa: BLE001 - whatever a text does to a compiler
            self._error = error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
        *,
        now: datetime | None = None,
        generation_prompt: bool = True,
    ) -> str:
        """The text of a conversation.

        Args:
            messages: plain data, as the template knows them; the template may change its lists.
            tools: as OpenAI's clients send them; None for none.
            variables: whatever else the template sees, the special tokens included.
            now: what the template's clock shows; None for the machine's.
            generation_prompt: whether the assistant's next turn is opened.

        Raises:
            jinja2.TemplateError: the template refuses the conversation, or wants too much.
            Exception: whatever else a program can raise.
        """
        if self._template is None:
            assert self._error is not None
            raise self._error
        self._environment.begin(now or datetime.now())
        given = {**variables, "messages": messages, "tools": tools, "add_generation_prompt": generation_prompt}
        parts: list[str] = []
        size = 0
        for part in self._template.generate({"documents": None, **given}):
            size += len(part)
            if size > LARGEST:
                raise TemplateLimitError("the template writes too much")
            parts.append(part)
        return "".join(parts)


class _Code(CodeGenerator):
    """Compiles templates so that the sandbox sees every step of a loop, and every text that is put together."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.join((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Sandbox(ImmutableSandboxedEnvironment):
    code_generator_class = _Code
    intercepted_binops: ClassVar[frozenset[str]] = frozenset({"+", "*", "**", "%"})  # type: ignore[misc]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.begin(datetime.now())
        self.filters["tojson"] = _tojson
        for name in _COSTLY_FILTERS:
            self.filters[name] = self._bounded(self.filters[name])
        del self.globals["lipsum"]
        self.globals.update(
            raise_exception=_raise, strftime_now=self._strftime, dict=_TemplateDict(), namespace=_TemplateNamespace
        )

    def begin(self, now: datetime) -> None:
        """Begins a rendering: what it may use is counted from here."""
        self._now = now
        self._until = time.monotonic() + SECONDS
        self._ticks = 0

    def tick(self) -> None:
        self._ticks += 1
        if self._ticks % _TICKS == 0 and time.monotonic() > self._until:
            raise TemplateLimitError("the template takes too long")

    def join(self, parts: Sequence[Any]) -> str:
        """What `~` gives."""
        texts = [str(part) for part in parts]
        if sum(map(len, texts)) > LARGEST:
            raise TemplateLimitError("the template makes too long a text")
        return "".join(texts)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Unlike transformers: some templates gather messages in lists of their own. What they are given is a copy.
        return (attr in ("append", "pop") and isinstance(obj, list)) or super().is_safe_attribute(obj, attr, value)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        __self.tick()
        if __obj == __self.tick:
            return None
        if not isinstance(__obj, Macro):
            _check_arguments(__obj, args, kwargs)
        return _checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.tick()
        if operator == "*":
            for sized, times in ((left, right), (right, left)):
                if isinstance(sized, Sized) and isinstance(times, int) and len(sized) * times > LARGEST:
                    raise TemplateLimitError("the template repeats a text too often")
        elif operator == "%" and isinstance(left, str):
            _check_widths(left)
        elif operator == "**" and not (abs(left) <= _WIDEST and abs(right) <= 8):
            raise TemplateLimitError("the template computes too large a number")
        return _checked(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            step = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
            loop.body.insert(0, nodes.ExprStmt(step))
        return tree

    def _strftime(self, pattern: str) -> str:
        return self._now.strftime(pattern)

    def _bounded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)  # also copies which of jinja's own objects the filter wants to be handed
        def run(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            _check_arguments(function, args, kwargs)
            value = function(*args, **kwargs)
            return self._counted(value) if isinstance(value, Iterator) else _checked(value)

        return run

    def _counted(self, values: Iterator[Any]) -> Iterator[Any]:
        for value in values:
            self.tick()
            yield value


def _check_arguments(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuses what would make one call allocate without bound."""
    name = getattr(function, "__name__", "")
    subject = getattr(getattr(function, "__wrapped__", function), "__self__", None)
    if name in _PADDING and any(isinstance(one, int) and one > _WIDEST for one in (*args, *kwargs.values())):
        raise TemplateLimitError("the template pads a text too far")
    values = [one for one in (subject, *args, *kwargs.values()) if isinstance(one, str | list | tuple)]
    size = 0
    if name in ("replace", "do_replace") and len(values) >= 3:
        text, old, new = values[:3]
        size = len(text) + text.count(old) * len(new) if isinstance(text, str) and isinstance(old, str) else 0
    elif name in ("join", "do_join") and len(values) >= 2:
        size = len(values[0]) * len(values[1])
    elif name in ("expandtabs", "do_indent") and values:
        size = (values[0].count("\t") + values[0].count("\n")) * _WIDEST if isinstance(values[0], str) else 0
    elif name in ("format", "do_format") and values and isinstance(values[0], str):
        _check_widths(values[0])
    if size > LARGEST:
        raise TemplateLimitError("the template makes too long a text")


def _check_widths(text: str) -> None:
    """Refuses a width of five digits, or one that is computed, in a format."""
    if re.search(r"%[^a-zA-Z%]*(?:[0-9]{5}|\*)|\{[^{}]*:[^{}]*(?:[0-9]{5}|\{)", text):
        raise TemplateLimitError("the template pads a text too far")


def _checked(value: Any) -> Any:
    if isinstance(value, Sized) and not isinstance(value, Macro) and len(value) > LARGEST:
        raise TemplateLimitError("the template makes too large a value")
    if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
        raise TemplateLimitError("the template computes too large a number")
    return value


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Some templates hand over what `map` gives; transformers refuses it.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=_members
    )


def _members(value: Any) -> list[Any]:
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


class _TemplateDict:
    """`dict` without what its own class would let a template reach."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _TemplateNamespace(Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace keeps no {name!r}")


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here it only stands aside."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

    def _as_it_is(self, caller: Callable[[], str]) -> str:
        return caller()
