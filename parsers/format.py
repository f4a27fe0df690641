"""What a format file may say: markers, the states of a call, how calls are written, how the format is recognised.

A format is data. Its call states form a small machine that the engine runs: `Expect` takes one of several literals,
`Capture` takes text up to one, the others hand over to a transducer that writes JSON. An edge that leads to `END`
leaves the calls and returns to the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

END = "<end>"


@dataclass(frozen=True, slots=True)
class Edge:
    """One literal and the state behind it.

    `do`: "start" when the header of a call is complete with it, "finish" when the call is. `keep` looks at the
    literal without consuming it. `kind` says how the value that follows is typed (see `RawValue`).
    """

    literal: str
    to: str
    do: Literal["", "start", "finish"] = ""
    keep: bool = False
    kind: Literal["", "string", "json"] = ""


@dataclass(frozen=True, slots=True)
class Expect:
    """One of the literals must follow, after any white space if `space`.

    Anything else: before the header is complete the call fails and becomes text; after that, with `otherwise` =
    "end" the call is over and the text is the answer's, with "skip" the text up to the next literal is the answer's
    and the call goes on.
    """

    edges: tuple[Edge, ...]
    space: bool = True
    otherwise: Literal["skip", "end"] = "skip"


@dataclass(frozen=True, slots=True)
class Capture:
    """Text up to the first of the literals is the name, the identifier, a parameter's key or its type; or is dropped.

    `declared`: the name must be one that the request declares. `identifier`: it has no characters but those of
    identifiers. `partial`: a name that the request declares is one though the text ends behind it. `prefix`, `suffix`
    and a trailing `:NUMBER` (with `numbered`) are no part of the name. `doubled`: NAME.NAME is NAME where the request
    declares only that. `escaped`: `&amp;` and `&quot;` stand for their characters.
    """

    what: Literal["name", "id", "key", "type", "drop"]
    edges: tuple[Edge, ...]
    prefix: str = ""
    numbered: bool = False
    declared: bool = False
    partial: bool = False
    identifier: bool = False
    doubled: bool = False
    escaped: bool = False
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class JsonCall:
    """A JSON object that holds the name and the arguments under some of these keys, in any order.

    `named_by_key`: the object is `{NAME: ARGUMENTS}`.
    """

    to: str
    names: tuple[str, ...] = ("name",)
    arguments: tuple[str, ...] = ("arguments", "parameters")
    ids: tuple[str, ...] = ("id", "tool_call_id", "call_id")
    named_by_key: bool = False


@dataclass(frozen=True, slots=True)
class JsonArguments:
    """The JSON value that follows is the arguments; the call starts with it."""

    to: str


@dataclass(frozen=True, slots=True)
class RawValue:
    """The raw text of one parameter up to a literal that something legal follows.

    Its type comes from the request's schema unless the edge that led here says `kind`. `newline`: one line feed on
    each side belongs to the markup.
    """

    edges: tuple[Edge, ...]
    newline: bool = False


@dataclass(frozen=True, slots=True)
class PythonArguments:
    """Keyword arguments of a Python call, from behind the opening bracket up to the closing one."""

    to: str


@dataclass(frozen=True, slots=True)
class BraceArguments:
    """An object in Gemma's notation, from its opening brace on; `mark` stands round strings."""

    to: str
    mark: str


@dataclass(frozen=True, slots=True)
class ElementArguments:
    """Nested elements, each tag behind `mark`, up to the tag that closes `close`."""

    to: str
    mark: str
    close: str


@dataclass(frozen=True, slots=True)
class Header:
    """A message's header up to `end`, in any order: a recipient `to=NAME`, a channel, a content type.

    A message to a tool is a call and `to` reads its arguments; one on a channel of `thoughts`, or to one of its
    recipients, is a thought; all others are the answer.
    """

    to: str
    end: str = "<|message|>"
    prefix: str = "functions."
    thoughts: tuple[str, ...] = ("analysis", "self")
    people: tuple[str, ...] = ("user", "all", "assistant")
    separators: tuple[str, ...] = ("<|channel|>", "<|constrain|>", "<|start|>")


Arguments = JsonArguments | PythonArguments | BraceArguments | ElementArguments
State = Expect | Capture | JsonCall | RawValue | Header | Arguments


@dataclass(frozen=True, slots=True)
class Thought:
    """The markers of a thought, and how many line feeds round them belong to the markup."""

    open: str
    close: str
    after_open: int = 1
    before_close: int = 1
    after_close: int = 2
    # Where a closing marker without a thought is no text: nowhere, at the head of an answer, or anywhere (then an
    # opening one counts anywhere, too, and not only at the beginning of a line).
    stray: Literal["", "head", "always"] = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """How the calls of one turn are written; grammar, history and the tests all write them from here.

    `{index}` stands for the call's number in the turn, `{id}` for its identifier, `{name}` in the head for its name,
    `{string}` for whether a parameter is one, `{type}` for its JSON type.
    opening, then per call head NAME middle ARGUMENTS tail with separator in between, then closing. With style
    "parameters" the arguments are, per parameter, parameter[0] KEY parameter[1] VALUE parameter[2].
    """

    head: str
    middle: str
    tail: str
    opening: str = ""
    closing: str = ""
    separator: str = ""
    style: Literal["json", "parameters", "python", "braces", "elements"] = "json"
    parameter: tuple[str, str, str] = ("", "", "")
    # What stands round strings (style "braces") or before tags (style "elements").
    quote: str = ""
    # Where a grammar wakes in free text: the first literal, from the call's opening on, that commits the model to a
    # call; "" where only its name does. One that ends with a recipient's `to=` waits for a recipient that is no person.
    trigger: str = ""
    # What may stand before the first call of a turn, where neither the prompt nor the end of a thought has written
    # it. If opening and head begin with it, it may be missing there.
    lead: tuple[str, ...] = ()
    # What opening and head begin with and models often leave out.
    omitted: str = ""
    # What stands round an answer in which there are no calls.
    answer: tuple[str, str] = ("", "")
    # What `{id}` may be: a regular expression.
    identifier: str = "[A-Za-z0-9]{9}"
    # Other ways in which the format's models write calls. One whose trigger the vocabulary has a token for is the
    # usual one, if it has none for this one's.
    also: tuple["Wire", ...] = ()
    result: str = "{result}"


THINK = Thought("<think>", "</think>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One way in which models write tool calls. See the module's text and docs for the fields that are not plain."""

    key: str
    models: str
    wire: Wire
    states: Mapping[str, State] = field(hash=False)
    # marker -> the state behind it
    openers: Mapping[str, str] = field(default_factory=dict, hash=False)
    # The state that an answer without a marker begins in, and the first characters that may begin it.
    bare: str = ""
    bare_first: str = "{["
    # What begins without a marker is nevertheless sure to be markup once its header is complete.
    bare_sure: bool = False
    # Markers open messages of every kind, so they count without tools, too.
    messages: bool = False
    thoughts: tuple[Thought, ...] = (THINK,)
    # At the head of an answer this opens the first of the thoughts, whose marker was not decoded.
    silent: str = ""
    # Markers of the answer itself, dropped, and end-of-turn tokens.
    dropped: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    # How many line feeds before an opening marker the template writes.
    newlines: int = 1
    # A code fence is part of the format, so openers count inside one.
    fenced: bool = False
    # A call to an undeclared tool is text.
    declared_only: bool = False
    # Texts in a template or a rendered call that tell this format from others whose calls look the same.
    signs: tuple[str, ...] = ()
    # What identifiers of calls must look like in a prompt: anything, nine letters and digits, or `functions.NAME:N`
    # where N counts the calls of the conversation.
    call_id: Literal["", "nine", "numbered"] = ""

    @property
    def markers(self) -> frozenset[str]:
        """What opens calls and opens or closes thoughts; a parser wants to know which of them are single tokens."""
        return frozenset(self.openers) | {marker for one in self.thoughts for marker in (one.open, one.close)}

    @property
    def literals(self) -> frozenset[str]:
        """Everything that means something in some state; an end-of-turn token that is not among it is no text."""
        edges = {edge.literal for state in self.states.values() for edge in getattr(state, "edges", ())}
        return self.markers | edges | frozenset(self.dropped) | frozenset(self.ends)
