"""What decoding under a grammar costs.

    scripts/bench_grammar.py [masks] [--vocabulary qwen|tekken] [--tokens 4000] [--runs 3]
    scripts/bench_grammar.py [rates] [--pairs 7]

Without a command, both. Ends with 1 if a figure is missed.

``masks``: CPU time of one token, taken and with the mask of the next one computed, at a vocabulary of real size (which
a package carries; it is installed once, outside the tree). The text is a call that writes a file of this repository:
with JSON arguments (hermes), with raw values (qwen3_coder, minimax_m3, pythonic, gemma4), and JSON of a schema with
many short members. Forced tokens are left out: they need no mask. Wanted at 151k tokens: JSON a mean of 50 us and a p99
of 300 us, raw values a p50 of 50 us and a p99 of 3 ms. Of several runs each figure is the median.

``rates``: tokens per second of a head over a tiny model in this process, where every generation is under a grammar,
over the same where none is, as the median of interleaved pairs; alone and eight at a time. Both give as many tokens.
Wanted: 0.95. The CPU time of a token is printed too, which a busy machine moves least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("node/grammar", "node/serving", "clients")]

from packaged_vocabularies import tokenizer_folder
from random_head import RandomHead, Said, make_folder, random_head, tool

from node.engine.tokenizer import load_tokenizer
from node.serving.grammar.calls import GrammarWriter, Tool
from node.serving.grammar.compiler import GrammarCompiler
from node.serving.grammar.matcher import Matcher
from node.serving.grammar.tokens import GrammarTokens
from node.serving.pieces import Vocabulary
from parsers import get_format
from parsers.writing import write_calls

WRITE_FILE = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "content": {"type": "string"}, "mode": {"type": "integer"}},
    "required": ["path", "content"],
}
KINDS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "integer"},
    {"type": "boolean"},
    {"enum": ["low", "middle", "high"]},
    {"type": "array", "items": {"type": "number"}},
]
MEMBERS = {
    "type": "object",
    "properties": {f"member_{i}": KINDS[i % len(KINDS)] for i in range(60)},
    "required": [f"member_{i}" for i in range(0, 60, 2)],
}
VALUES: list[Any] = ["some words", 12345, True, "middle", [1, 2.5, -3e7]]


JSON_COST = {"mean": 50.0, "p99": 300.0}
RAW_COST = {"p50": 50.0, "p99": 3000.0}
"""Microseconds that a token may take."""
RATE = 0.95
"""Of the tokens per second without a grammar."""


def micros(seconds: Sequence[float]) -> dict[str, float]:
    """What is known of the costs, in microseconds."""
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    figures = {"mean": statistics.fmean(seconds), "p50": p50, "p99": p99, "max": ordered[-1]}
    return {name: figure * 1e6 for name, figure in figures.items()}


def follow(matcher: Matcher, ids: Sequence[int]) -> list[float]:
    """CPU seconds of each token that was not forced: taken, and the next mask computed."""
    spent: list[float] = []
    forced = matcher.forced()
    matcher.mask()
    for token in ids:
        begin = time.thread_time()
        if not matcher.consume(token):
            raise SystemExit(f"the grammar does not allow token {token} behind {len(spent)}")
        forced = forced[1:] if forced[:1] == (token,) else ()
        if not forced:
            forced = matcher.forced()
        if not forced:
            matcher.mask()
            spent.append(time.thread_time() - begin)
    return spent


def masks(name: str, count: int, runs: int) -> int:
    """Measure and print; returns how many figures are missed."""
    tokenizer = load_tokenizer(tokenizer_folder(name))
    tokens = GrammarTokens(tokenizer, Vocabulary(tokenizer))
    compiler = GrammarCompiler(tokens, frozenset(int(token) for token in tokenizer.eos_token_ids))
    begin = time.perf_counter()
    compiler.warm().result()
    print(f"{name}: {tokens.size} tokens, prepared in {time.perf_counter() - begin:.2f} s")
    source = "\n".join(path.read_text() for path in sorted((ROOT / "node" / "serving").glob("*.py")))
    source = source[: count * 3]
    writing = [("write_file", json.dumps({"path": "a.py", "content": source}))]
    members = {key: VALUES[i % len(VALUES)] for i, key in enumerate(MEMBERS["properties"]) if i % 3}
    members |= {key: VALUES[i % len(VALUES)] for i, key in enumerate(MEMBERS["properties"]) if i % 2 == 0}
    ordered = {key: members[key] for key in MEMBERS["properties"] if key in members}
    cases = [
        ("JSON string", "hermes", Tool("write_file", json.dumps(WRITE_FILE)), writing),
        ("JSON members", "hermes", Tool("report", json.dumps(MEMBERS)), [("report", json.dumps(ordered))] * 10),
        ("raw value", "qwen3_coder", Tool("write_file", json.dumps(WRITE_FILE)), writing),
        ("elements", "minimax_m3", Tool("write_file", json.dumps(WRITE_FILE)), writing),
        ("Python", "pythonic", Tool("write_file", json.dumps(WRITE_FILE)), writing),
        ("braces", "gemma4", Tool("write_file", json.dumps(WRITE_FILE)), writing),
    ]
    missed = 0
    for label, key, called, calls in cases:
        spec = get_format(key)
        text = write_calls(spec, calls)

        async def compiled(spec: Any = spec, called: Tool = called, label: str = label) -> Matcher:
            made = await compiler.compile(
                label,
                lambda validate: GrammarWriter(spec, tokens.markers, validate).required(
                    [called], several=True, thought=False
                ),
                param="tools",
            )
            return compiler.matcher(made)

        begin = time.perf_counter()
        asyncio.run(compiled())
        took = time.perf_counter() - begin
        ids = tokenizer.encode(text, add_special_tokens=False)
        measured = [micros(follow(asyncio.run(compiled()), ids)) for _ in range(runs)]
        figures = {figure: statistics.median(one[figure] for one in measured) for figure in measured[0]}
        wanted = JSON_COST if label.startswith("JSON") else RAW_COST
        late = [f"{figure} MISSED (wanted {most:g})" for figure, most in wanted.items() if figures[figure] > most]
        missed += len(late)
        shown = "  ".join(f"{figure} {value:7.1f} us" for figure, value in figures.items())
        print(f"{label:14}{shown}   compiled in {took * 1e3:.0f} ms  {'; '.join(late) or 'held'}", flush=True)
    compiler.close()
    return missed


async def rates(pairs: int, length: int) -> int:
    """Measure and print, with answers of so many tokens; returns how many figures are missed.

    The schema asks for a long string, so that the grammar never ends the turn; nor does anything else.
    """
    missed = 0
    schema = {"type": "object", "properties": {"text": {"type": "string", "minLength": 2000}}, "required": ["text"]}
    bound = {"tools": [tool("write", schema)], "choice": "required"}
    with tempfile.TemporaryDirectory() as folder:
        async with random_head(make_folder(Path(folder)), ["hermes"], hidden=512, layers=6) as head:
            for batch in (1, 8):
                ratios, costs = [], []
                for pair in range(pairs + 1):
                    order = [{}, bound] if pair % 2 else [bound, {}]
                    got = [await rate(head, batch, length, fields) for fields in order]
                    free, held = got if pair % 2 else got[::-1]
                    if not pair:
                        continue  # warms up
                    ratios.append(held[0] / free[0])
                    costs.append(held[1] / free[1])
                    print(
                        f"batch {batch}: {free[0]:.1f} tokens/s free, {held[0]:.1f} under a grammar, {ratios[-1]:.3f}; "
                        f"CPU {free[1] * 1e3:.2f} and {held[1] * 1e3:.2f} ms/token, {costs[-1]:.3f}"
                    )
                rate_median, cost_median = statistics.median(ratios), statistics.median(costs)
                slow = rate_median < RATE
                missed += slow
                verdict = f"MISSED (wanted {RATE})" if slow else "held"
                medians = f"medians {rate_median:.3f} of the tokens/s, {cost_median:.3f} of the CPU time"
                print(f"batch {batch}: {medians}; {verdict}", flush=True)
    return missed


async def rate(head: RandomHead, batch: int, length: int, fields: dict[str, Any]) -> tuple[float, float]:
    """Tokens per second, and CPU seconds per token."""
    begin, cpu = time.perf_counter(), time.process_time()
    said = await asyncio.gather(*(one(head, length, fields) for _ in range(batch)))
    tokens = sum(len(each.tokens) for each in said)
    return tokens / (time.perf_counter() - begin), (time.process_time() - cpu) / tokens


async def one(head: RandomHead, length: int, fields: dict[str, Any]) -> Said:
    return await head.say("hermes", max_tokens=length, ignore_eos=True, sampling={"temperature": 1.0}, **fields)


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=["masks", "rates"])
    parser.add_argument("--vocabulary", choices=["qwen", "tekken"], default="qwen")
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--length", type=int, default=200, help="tokens of an answer")
    options = parser.parse_args()
    missed = 0
    if options.command != "rates":
        missed += masks(options.vocabulary, options.tokens, options.runs)
    if options.command != "masks":
        missed += asyncio.run(rates(options.pairs, options.length))
    print(f"{missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
