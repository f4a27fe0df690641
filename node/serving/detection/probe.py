"""What a chat template does with calls: a known one is rendered with it, and compared with the render without.

A model's owner rarely says how the template wants its input. It is found out here, once per model.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from node.serving.detection.plain_tools import described

NAME: Final = "get_forecast"
ARGUMENTS: Final = {"city": "Lyon", "days": 3}
CALL_ID: Final = "call00000"
RESULT: Final = "RESULT42"
_THOUGHT: Final = "THOUGHT17"
TOOL: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Tells the weather of the next days.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}

Messages = Sequence[Mapping[str, Any]]
Render = Callable[[Messages, Sequence[Mapping[str, Any]] | None, bool], str]
"""A template as a function of messages, tools and whether the assistant's turn is opened; may raise anything."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a template's input must be changed so that a conversation with calls survives it."""

    text_arguments: bool = False
    """Arguments are wanted as JSON text, not as an object."""
    empty_tools: bool = False
    """No tools are wanted as an empty list."""
    described: bool = False
    """Every parameter needs a description."""
    drops_calls: bool = False
    """Calls of the assistant do not show, or are refused."""
    drops_results: bool = False
    """Results of tools do not show, or are refused."""
    drops_system: bool = False
    """A system message does not show, or is refused."""
    system_first: bool = False
    """A later system message does not show, is refused, or takes the place of the first."""
    drops_words: bool = False
    """Of words and calls in one message, one does not show."""
    one_call: bool = False
    """Of several calls in one message, one does not show."""
    drops_strays: bool = False
    """A result does not show, or is refused, where the template has written no call that it belongs to."""
    drops_thoughts: bool = False
    """The assistant's thoughts never show."""
    alternates: bool = False
    """Two messages of the user in a row are refused."""
    wraps_broken: bool = False
    """Arguments that are no object do not show: they are wrapped into one."""
    simplified: bool = False
    """Each parameter is told as being of one type. No template is probed for it: it is tried when one fails."""
    null_content: str = ""
    """What becomes of `content: null` beside calls: "", "printed" or "raises"; Tandem always passes a text."""
    result_in_turn: bool = False
    """A result does not end the assistant's turn."""
    nine: bool = False
    """Identifiers other than nine letters and digits are refused."""

    def in_words(self) -> Iterator[str]:
        """What is unusual, for people."""
        words = {
            "text_arguments": "wants arguments as JSON text",
            "empty_tools": "fails without tools unless it gets an empty list",
            "described": "fails on a parameter without a description",
            "drops_calls": "drops or refuses the assistant's calls: they are written into the content",
            "drops_results": "drops or refuses results: they are written into a user's message",
            "drops_system": "drops or refuses system messages: they are written into the first user's message",
            "system_first": "drops or refuses system messages but one: later ones become a user's message",
            "drops_words": "drops words or calls where both are in one message: its calls are written into the words",
            "one_call": "drops calls where there are several: they are written into the content",
            "drops_strays": "drops or refuses a result without its call: it is written into a user's message",
            "wraps_broken": "does not show arguments that are no object: they are wrapped into one",
            "drops_thoughts": "never shows thoughts",
            "alternates": "refuses two user's messages in a row: they are joined",
            "result_in_turn": "writes results into the assistant's turn",
            "nine": "refuses identifiers that are not nine letters and digits",
        }
        yield from (text for name, text in words.items() if getattr(self, name))
        if self.null_content:
            yield f"content null beside calls is {self.null_content}: Tandem passes an empty text"


@dataclass(frozen=True, slots=True)
class Probe:
    """What came out.

    ``call``, ``result`` and ``instructions``: what the template wrote of the known call, of it and its result, and of
    the tools; empty where it did not.
    """

    quirks: Quirks = field(default_factory=Quirks)
    call: str = ""
    result: str = ""
    instructions: str = ""
    error: str = ""
    """Why not even a plain question can be rendered."""


def user(text: str = "What will the weather be?") -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": text}


def call(content: str | None = "", *, text_arguments: bool = False, call_id: str = CALL_ID) -> dict[str, Any]:
    """The assistant's message with the known call."""
    return _calling([(call_id, json.dumps(ARGUMENTS) if text_arguments else dict(ARGUMENTS))], content)


def _calling(calls: Sequence[tuple[str, Any]], content: str | None = "") -> dict[str, Any]:
    made = [
        {"id": call_id, "type": "function", "function": {"name": NAME, "arguments": arguments}}
        for call_id, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


def result(call_id: str = CALL_ID) -> dict[str, Any]:
    """The known result."""
    return {"role": "tool", "tool_call_id": call_id, "name": NAME, "content": RESULT}


def probe(render: Render) -> Probe:
    """Never raises: what the template refuses is a finding."""
    quirks = _ways_of_tools(render)
    tools = _tools(quirks)
    plain, error = _try(render, [user()], tools)
    if plain is None:
        return Probe(quirks, error=error)
    without, _ = _try(render, [user()], [] if quirks.empty_tools else None)
    instructions = _difference(without, plain) if without is not None else plain
    for text in (False, True):
        shown = _shown(render, [user(), call(text_arguments=text)], tools)
        if shown is not None and all(str(value) in _difference(plain, shown) for value in ARGUMENTS.values()):
            quirks = replace(quirks, text_arguments=text)
            break
    else:
        shown = None
    quirks = _ways_of_messages(render, tools, replace(quirks, drops_calls=shown is None))
    asking = call(text_arguments=quirks.text_arguments) if shown is not None else {"role": "assistant", "content": "-"}
    answered = _shown(render, [user(), asking, result()], tools)
    if answered is None or RESULT not in answered:
        quirks = replace(quirks, drops_results=True)
    if shown is not None:
        quirks = _ways_of_calls(render, tools, quirks, shown)
    base = shown or plain
    after = _difference(plain, answered) if answered is not None else ""
    return Probe(quirks, _difference(plain, shown) if shown else "", after if answered != base else "", instructions)


def _ways_of_tools(render: Render) -> Quirks:
    """The first way in which a question with tools, and without, can be rendered."""
    for quirks in (Quirks(), Quirks(described=True)):
        if _try(render, [user()], _tools(quirks))[0] is not None:
            break
    else:
        quirks = Quirks()
    if _try(render, [user()], None)[0] is None and _try(render, [user()], [])[0] is not None:
        quirks = replace(quirks, empty_tools=True)
    return quirks


def _ways_of_messages(render: Render, tools: Any, quirks: Quirks) -> Quirks:
    system = {"role": "system", "content": "SYSTEM88"}
    first = "SYSTEM88" in (_try(render, [system, user()], tools)[0] or "")
    later = [
        *([system] if first else []),
        user(),
        {"role": "assistant", "content": "Fine."},
        {"role": "system", "content": "LATER99"},
        user("Go on."),
    ]
    both = _try(render, later, tools)[0] or ""
    thinking = {"role": "assistant", "content": "Fine.", "reasoning_content": _THOUGHT, "thinking": _THOUGHT}
    return replace(
        quirks,
        drops_system=not first,
        system_first="LATER99" not in both or (first and "SYSTEM88" not in both),
        alternates=_try(render, [user(), user("Go on.")], tools)[0] is None,
        drops_thoughts=_THOUGHT not in (_try(render, [user(), thinking], tools, False)[0] or ""),
    )


def _ways_of_calls(render: Render, tools: Any, quirks: Quirks, shown: str) -> Quirks:
    text = quirks.text_arguments
    plain = _shown(render, [user()], tools) or ""

    def shows(messages: Messages, *words: str) -> bool:
        """Whether it writes each word once more than it does without the messages."""
        made = _shown(render, [user(), *messages], tools) or ""
        return all(made.count(word) > plain.count(word) for word in words)

    def arguments(city: str) -> Any:
        return json.dumps({"city": city}) if text else {"city": city}

    null, _ = _try(render, [user(), call(None, text_arguments=text)], tools, False)
    odd = [user(), call(text_arguments=text, call_id="call_1"), result("call_1")]
    opened, _ = _try(render, [user(), call(text_arguments=text), result()], tools, True)
    closed, _ = _try(render, [user(), call(text_arguments=text), result()], tools, False)
    return replace(
        quirks,
        null_content="raises" if null is None else "printed" if null != shown else "",
        nine=_try(render, odd, tools)[0] is None and not quirks.drops_results,
        result_in_turn=opened is not None and opened == closed,
        drops_words=not shows([_calling([(CALL_ID, arguments("Lyon"))], "WORDS55")], "WORDS55", "Lyon"),
        one_call=not shows(
            [_calling([(CALL_ID, arguments("Lyon")), ("call00001", arguments("Nice"))])], "Lyon", "Nice"
        ),
        drops_strays=not quirks.drops_results and not shows([{"role": "assistant", "content": "-"}, result()], RESULT),
        wraps_broken=not shows([_calling([(CALL_ID, '{"city": BROKEN66')])], "BROKEN66"),
    )


def _tools(quirks: Quirks) -> list[Mapping[str, Any]]:
    tool = copy.deepcopy(dict(TOOL))
    return [described(tool)] if quirks.described else [tool]


def _shown(render: Render, messages: Messages, tools: Any) -> str | None:
    return _try(render, messages, tools, False)[0]


def _try(render: Render, messages: Messages, tools: Any, prompt: bool = False) -> tuple[str | None, str]:
    try:
        return render(copy.deepcopy(list(messages)), copy.deepcopy(tools), prompt), ""
    except Exception as error:  # noqa: BLE001 - a template is a program: it may raise anything
        return None, f"{type(error).__name__}: {error}"


def _difference(before: str, after: str) -> str:
    """What is new in `after`, from the beginning of the line or marker where the two part."""
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return after[max(0, after.rfind("\n", 0, at) + 1 if at - after.rfind("\n", 0, at) < 32 else at) :]
