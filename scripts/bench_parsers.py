"""What the tool-call parsers cost: CPU time per token, by format family and by kind of text.

    scripts/bench_parsers.py [--tokens 20000] [--most 100000] [--formats hermes,qwen3_coder] [--json FILE]

Beside each figure: mlx-lm's parser for the same format where it has one (the state machine of its server on each token,
then its parser on the whole call) and a null parser (one content event per piece). Then what grows: cost per token at
100,000 tokens over that at 1,000, for plain and for hostile texts, also in pieces of one character. Last, parse, event
and SSE chunk together, with the gateway's own writer.

Wanted: string arguments and prose at most 3 us per token; headers, structure, Python and braces at most 6; growth at
most 1.3; everything together at most 40 us. Ends with 1 if a figure is missed. One run each, the best of a few.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gateway.openai.chat_stream import ChatStream
from gateway.openai.chunks import AnswerHead
from parsers import Format, Parser, ToolSpec, get_format
from parsers.events import ArgumentsDelta, CallEnd, CallStart, Content, Event, Reasoning
from parsers.writing import write_calls
from tandem.v1 import generation_pb2 as pb

SCHEMA = (
    '{"properties": {"text": {"type": "string"}, "count": {"type": "integer"}, "flag": {"type": "boolean"},'
    ' "edits": {"type": "array", "items": {"type": "object"}}}}'
)
TOOLS = [ToolSpec("update", SCHEMA), ToolSpec("ping")]
FORMATS = (
    "hermes qwen3_coder glm47 mistral deepseek_v32 kimi_k2 gpt_oss llama3_json lfm2 pythonic gemma4 minimax_m3 kimi_k3"
)
# mlx-lm's module for the same format.
THEIRS = {
    "hermes": "json_tools",
    "qwen3_coder": "qwen3_coder",
    "glm47": "glm47",
    "mistral": "mistral",
    "kimi_k2": "kimi_k2",
    "pythonic": "pythonic",
    "gemma4": "gemma4",
    "kimi_k3": "kimi_k3",
}
PLAIN, OTHER, GROWTH, TOGETHER = 3.0, 6.0, 1.3, 40.0
Piece = tuple[str, bool]


@dataclass(frozen=True)
class Figure:
    """One measured value beside what is wanted."""

    name: str
    value: float
    wanted: float
    beside: str = ""

    @property
    def missed(self) -> bool:
        return self.value > self.wanted


def tokens(spec: Format, text: str) -> list[Piece]:
    """About what a tokenizer makes of the text: the format's markers, words with their space, escapes."""
    edges = [edge.literal for state in spec.states.values() for edge in getattr(state, "edges", ())]
    markers = {one for one in (*spec.markers, *spec.ends, *edges) if len(one) > 2 and not re.search(r"\s", one)}
    pattern = "|".join(map(re.escape, sorted(markers, key=len, reverse=True)))
    pieces = re.findall((pattern + "|" if pattern else "") + r"\\.| ?\w{1,9}|[^\w\s\\]{1,3}|\s+|.", text)
    return [(piece, piece in spec.markers) for piece in pieces]


def texts(spec: Format, count: int) -> dict[str, tuple[list[Piece], float]]:
    """For each kind of text about `count` tokens, and what a token may cost."""
    words = " ".join(f"word{number % 100}" for number in range(count))
    code = "".join(f'    if a[{number % 10}] < "b" and c:\n        return x\n' for number in range(count // 24 + 1))
    edit = {"path": "src/main.py", "old": "def load(path):\n    return open(path)", "new": "word by word by word " * 4}
    made: dict[str, tuple[list[tuple[str, str]], float]] = {
        "string": ([("update", json.dumps({"text": words}))], PLAIN),
        "code": ([("update", json.dumps({"text": code}))], PLAIN),
        "edits": ([("update", json.dumps({"edits": [edit] * (count // 60 + 1)}))], OTHER),
        "headers": ([("update", '{"count": 12, "flag": true}'), ("ping", "{}")] * (count // 40 + 1), OTHER),
    }
    found: dict[str, tuple[list[Piece], float]] = {"prose": (tokens(spec, words), PLAIN)}
    for name, (calls, wanted) in made.items():
        slow = spec.wire.style in ("python", "braces")
        found[name] = (tokens(spec, write_calls(spec, calls)), OTHER if slow else wanted)
    return found


def cost(run: Callable[[], object], repeats: int = 5) -> float:
    """The least CPU time of a few runs, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        gc.collect()
        gc.disable()
        begin = time.process_time()
        run()
        best = min(best, time.process_time() - begin)
        gc.enable()
    return best


def ours(spec: Format, pieces: Sequence[Piece]) -> None:
    parser = Parser(spec, TOOLS)
    feed = parser.feed
    for text, single in pieces:
        feed(text, None, single)
    parser.finish()


def null(pieces: Sequence[Piece]) -> None:
    for text, _ in pieces:
        [Content(text)]


def theirs(key: str) -> Callable[[Sequence[Piece]], None] | None:
    """mlx-lm's way with the format; None where it has none."""
    if key not in THEIRS:
        return None
    try:
        machine = import_module("mlx_lm.generate").TextStateMachine
        module = import_module(f"mlx_lm.tool_parsers.{THEIRS[key]}")
    except ImportError:
        return None
    edges = {"normal": [(module.tool_call_start, "tool")], "tool": []}
    if module.tool_call_end:
        edges["tool"] = [(module.tool_call_end, "normal")]
    made = machine(edges)
    tools = [
        {"function": {"name": tool.name, "parameters": json.loads(tool.parameters_json or "{}")}} for tool in TOOLS
    ]

    def run(pieces: Sequence[Piece]) -> None:
        state = made.make_state()
        called: list[str] = []
        for text, _ in pieces:
            state, segments = machine.split(state, text)
            for name, part in segments:
                if name == "tool":
                    called.append(part)
                elif called:
                    parse("".join(called))
                    called = []
        if called:
            parse("".join(called))

    def parse(text: str) -> None:
        try:
            module.parse_tool_call(text, tools)
        except Exception:  # noqa: BLE001, S110 - what it cannot read costs what it costs
            pass

    return run


def by_kind(keys: Sequence[str], count: int) -> list[Figure]:
    """CPU microseconds per token."""
    figures: list[Figure] = []
    for key in keys:
        spec, other = get_format(key), theirs(key)
        for kind, (pieces, wanted) in texts(spec, count).items():
            each = 1e6 / len(pieces)
            mine = cost(lambda spec=spec, pieces=pieces: ours(spec, pieces)) * each
            nothing = cost(lambda pieces=pieces: null(pieces)) * each
            lent = f"{cost(lambda other=other, pieces=pieces: other(pieces), 2) * each:6.2f}" if other else "     -"
            figures.append(Figure(f"{key} {kind}", mine, wanted, f"mlx-lm {lent}  null {nothing:5.2f}"))
    return figures


def hostile(spec: Format, size: int) -> dict[str, list[Piece]]:
    """Texts that make bad parsers slow, about `size` pieces each."""
    open_call, close = write_calls(spec, [("update", '{"text": "@"}')]).split("@")
    listed = write_calls(spec, [("update", '{"edits": ["@"]}')]).split("@")[0]
    first = next(iter(spec.openers), "<")[0]
    opener = next(iter(spec.openers), "[")
    nested = "".join("[{"[level % 2] + ('"a": ' if level % 2 else "") for level in range(size))
    counted = write_calls(spec, [("update", '{"count": 77777}')]).split("77777")
    return {
        "words": [(f" word{number % 100}", False) for number in range(size)],
        "words in a string": [(open_call, False), *[(" word", False)] * size, (close, False)],
        "characters in a string": [(char, False) for char in open_call + "abcd efg " * (size // 9) + close],
        "first characters of a marker": [(first, False)] * size,
        "the same in a string": [(open_call, False), *[(first, False)] * size, (close, False)],
        "openers": [(opener, False)] * size,
        "openers as tokens": [(opener, True)] * size,
        "openers in a string": [(open_call, False), *[(opener, True)] * size],
        "backslashes": [(open_call, False), *[("\\", False)] * size, (close, False)],
        "line feeds": [(open_call, False), *[("\n", False)] * size, (close, False)],
        "white space": [(" ", False)] * size,
        "nested brackets": [(listed.rstrip('"'), False), *[(char, False) for char in nested]],
        "brackets that do not fit": [
            (listed.rstrip('"'), False),
            *[("[", False)] * (size // 2),
            *[("}", False)] * (size // 2),
        ],
        "digits": [(counted[0], False), *[("7", False)] * size, (counted[1], False)],
    }


def growth(keys: Sequence[str], large: int) -> list[Figure]:
    """Cost per token at so many tokens over that at 1,000."""
    figures: list[Figure] = []
    small = 1_000
    for key in keys:
        spec = get_format(key)
        few, many = hostile(spec, small), hostile(spec, large)
        for kind, short in few.items():
            long = many[kind]

            def often(spec: Format = spec, short: list[Piece] = short) -> None:
                for _ in range(20):
                    ours(spec, short)

            def once(spec: Format = spec, long: list[Piece] = long) -> None:
                ours(spec, long)

            before = cost(often, 2) / 20 / len(short)
            after = cost(once, 1) / len(long)
            if after > GROWTH * before:
                # Perhaps the machine was busy.
                before, after = cost(often, 3) / 20 / len(short), cost(once, 2) / len(long)
            figures.append(Figure(f"{key} {kind}", after / before, GROWTH, f"{after * 1e6:6.2f} us"))
    return figures


def message(event: Event) -> pb.GenerationEvent | None:
    """The event as the head sends it."""
    match event:
        case Content(text):
            return pb.GenerationEvent(content=text)
        case Reasoning(text):
            return pb.GenerationEvent(reasoning=text)
        case CallStart(index, name):
            start = pb.ToolCallStart(index=index, tool_call_id=f"call_{index}", name=name)
            return pb.GenerationEvent(tool_call_start=start)
        case ArgumentsDelta(index, text):
            return pb.GenerationEvent(tool_call_arguments=pb.ToolCallArguments(index=index, arguments_delta=text))
        case CallEnd(index, arguments):
            call = pb.ToolCall(tool_call_id=f"call_{index}", name="update", arguments_json=arguments)
            return pb.GenerationEvent(tool_call_end=pb.ToolCallEnd(index=index, tool_call=call))
        case _:
            return None


def together(keys: Sequence[str], count: int) -> list[Figure]:
    """Parse, event and SSE chunk, microseconds per token."""
    figures: list[Figure] = []
    for key in keys:
        spec = get_format(key)
        for kind, (pieces, _) in texts(spec, count).items():

            def run(spec: Format = spec, pieces: list[Piece] = pieces) -> None:
                parser, stream = Parser(spec, TOOLS), ChatStream(AnswerHead("chatcmpl-1", 1, "model"), 1)
                for text, single in pieces:
                    for event in parser.feed(text, None, single):
                        made = message(event)
                        if made is not None:
                            stream.feed(0, [made])

            figures.append(Figure(f"{key} {kind}", cost(run, 3) / len(pieces) * 1e6, TOGETHER))
    return figures


def main() -> int:
    """Measure and print; returns the exit status."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=20_000)
    options.add_argument("--most", type=int, default=100_000, help="tokens of the longest texts")
    options.add_argument("--formats", default=FORMATS.replace(" ", ","))
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    keys = given.formats.split(",")
    shown: dict[str, list[Any]] = {}
    missed = 0
    for title, figures in (
        ("us per token", by_kind(keys, given.tokens)),
        (f"growth from 1,000 to {given.most:,} tokens", growth(keys, given.most)),
        ("parse, event and chunk, us per token", together(keys, given.tokens)),
    ):
        print(f"\n{title}", flush=True)
        for figure in figures:
            missed += figure.missed
            mark = "  MISSED" if figure.missed else ""
            print(
                f"  {figure.name:42} {figure.value:6.2f}  (wanted {figure.wanted:g})  {figure.beside}{mark}", flush=True
            )
        shown[title] = [[figure.name, figure.value, figure.wanted] for figure in figures]
    if given.json:
        given.json.write_text(json.dumps(shown, indent=1))
    print(f"\n{missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
