"""`python -m parsers`: a filter, one JSON object a line in, one a line out. `--events` shows when each event came."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, Literal

from parsers import FORMATS, Format, Parser, ToolSpec
from parsers.events import ArgumentsDelta, CallEnd, CallStart, Content, Event, Finish, Reasoning, Warning  # noqa: A004

_TYPES: dict[type, str] = {
    Content: "content",
    Reasoning: "reasoning",
    CallStart: "call_start",
    ArgumentsDelta: "arguments",
    CallEnd: "call_end",
    Warning: "warning",
    Finish: "finish",
}

_KINDS: dict[Any, str] = {str: "a string", list: "an array"}


def _take(line: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """The value of a key, which may be missing or null. ValueError if it is of another kind."""
    value = line.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ValueError(f"{key!r} is not {_KINDS[kind]}")
    return value


def _tools(line: dict[str, Any]) -> list[ToolSpec]:
    tools: list[ToolSpec] = []
    for tool in _take(line, "tools", list, []):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ValueError("a tool has no name")
        parameters = function.get("parameters")
        tools.append(ToolSpec(function["name"], None if parameters is None else json.dumps(parameters)))
    return tools


def _pieces(line: dict[str, Any]) -> list[tuple[str, int | None, bool]]:
    if (pieces := _take(line, "pieces", list)) is not None:
        for piece in pieces:
            if not isinstance(piece, list) or len(piece) != 3 or not isinstance(piece[0], str):
                raise ValueError("a piece is not [text, id, is_single_token]")
        return [(text, number, bool(single)) for text, number, single in pieces]
    if (chunks := _take(line, "chunks", list)) is not None:
        if not all(isinstance(chunk, str) for chunk in chunks):
            raise ValueError("a chunk is not a string")
        return [(chunk, None, False) for chunk in chunks]
    text = _take(line, "text", str)
    if text is None:
        raise ValueError("there is none of 'text', 'chunks', 'pieces'")
    return [(text, None, False)]


def _format(line: dict[str, Any]) -> Format:
    key, family = _take(line, "format", str), _take(line, "family", str)
    for one in (key, family):
        if one in FORMATS:
            return FORMATS[one]
    raise ValueError(f"no tool-call format {key or family!r}")


def _choice(line: dict[str, Any], key: str, choices: tuple[str, ...]) -> Any:
    value = line.get(key)
    if value is not None and value not in choices:
        raise ValueError(f"{key!r} is none of {', '.join(choices)}")
    return value


def run(line: dict[str, Any]) -> Iterator[tuple[int, Event]]:
    """The events of one line, each with the number of the piece after which it came. ValueError if it is no request."""
    if not isinstance(line, dict):
        raise ValueError("the line is not a JSON object")
    pieces = _pieces(line)
    parser = Parser(
        _format(line),
        _tools(line),
        line.get("tool_choice") != "none",
        _take(line, "prompt_suffix", str, ""),
        initial=_choice(line, "initial", ("content", "reasoning")),
        # A piece that is one token shows that the vocabulary has a token for its text.
        single_tokens={text for text, _, single in pieces if single},
    )
    end: Literal["stop", "length"] = _choice(line, "end", ("stop", "length")) or "stop"
    for index, (text, number, single) in enumerate(pieces):
        for event in parser.feed(text, number, single):
            yield index, event
    for event in parser.finish(end):
        yield max(0, len(pieces) - 1), event


def whole(line: dict[str, Any]) -> dict[str, Any]:
    """The answer as one object."""
    content: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, str]] = []
    warnings: list[str] = []
    finish = "stop"
    for _, event in run(line):
        match event:
            case Content(text):
                content.append(text)
            case Reasoning(text):
                reasoning.append(text)
            case CallStart(_, name):
                calls.append({"name": name, "arguments": ""})
            case CallEnd(index, arguments, warning):
                calls[index]["arguments"] = arguments
                warnings.extend([warning] if warning else [])
            case Warning(text):
                warnings.append(text)
            case Finish(reason):
                finish = reason
            case _:
                pass
    answer = {"content": "".join(content), "reasoning": "".join(reasoning), "calls": calls}
    return {**answer, "finish": finish, "warnings": warnings}


def timed(line: dict[str, Any]) -> dict[str, Any]:
    """The answer as a list of events."""
    events: list[dict[str, Any]] = []
    for at, event in run(line):
        shown: dict[str, Any] = {"at": at, "type": _TYPES[type(event)]}
        match event:
            case Content(text) | Reasoning(text) | Warning(text):
                shown["text"] = text
            case CallStart(index, name):
                shown |= {"index": index, "name": name}
            case ArgumentsDelta(index, text):
                shown |= {"index": index, "text": text}
            case CallEnd(index, arguments, warning):
                if warning:
                    events.append({"at": at, "type": "warning", "index": index, "text": warning})
                shown |= {"index": index, "text": arguments}
            case Finish(reason):
                shown["text"] = reason
        events.append(shown)
    return {"events": events}


def main() -> None:
    """Filter standard input to standard output; a bad line is answered with its error and the rest goes on."""
    options = argparse.ArgumentParser(prog="python -m parsers", description=__doc__)
    options.add_argument("--events", action="store_true", help="show each event and the piece after which it came")
    answer = timed if options.parse_args().events else whole
    for text in sys.stdin.buffer:
        try:
            result = answer(json.loads(text))
        except (ValueError, RecursionError) as error:
            result = {"error": str(error)}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
