"""`python -m parsers`: a filter, one JSON object a line in, one a line out. `--events` shows when each event came."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from parsers import FORMATS, Parser, ToolSpec
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


def _tools(declared: object) -> list[ToolSpec]:
    tools: list[ToolSpec] = []
    for tool in declared if isinstance(declared, list) else []:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            tools.append(ToolSpec(function["name"], None if parameters is None else json.dumps(parameters)))
    return tools


def _pieces(line: dict[str, Any]) -> list[tuple[str, int | None, bool]]:
    if "pieces" in line:
        return [(str(text), number, bool(single)) for text, number, single in line["pieces"]]
    if "chunks" in line:
        return [(str(text), None, False) for text in line["chunks"]]
    return [(str(line["text"]), None, False)]


def run(line: dict[str, Any]) -> Iterator[tuple[int, Event]]:
    """The events of one line, each with the number of the piece after which it came."""
    key = line["format"]
    spec = FORMATS[key if key in FORMATS else line.get("family", key)]
    pieces = _pieces(line)
    parser = Parser(
        spec,
        _tools(line.get("tools")),
        line.get("tool_choice") != "none",
        line.get("prompt_suffix") or "",
        initial=line.get("initial"),
    )
    for index, (text, number, single) in enumerate(pieces):
        for event in parser.feed(text, number, single):
            yield index, event
    for event in parser.finish("length" if line.get("end") == "length" else "stop"):
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
            case CallEnd(index, arguments):
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
        if not text.strip():
            continue
        try:
            result = answer(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
