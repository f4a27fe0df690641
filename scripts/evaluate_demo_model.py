"""Score the embedded demonstration model through a running gateway, on requests that its training never saw.

    make run
    python scripts/evaluate_demo_model.py --base-url http://127.0.0.1:52525/v1

First it proves that tools, values and phrasings are disjoint from training, and stops if they are not. Generated and
hand-written requests are reported apart. `--require` also fails when a figure misses its target. A call is right when
its name and all of its arguments are; calls of one turn may come in any order. An answer from a result is right when it
calls nothing and says every value of the result. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demo_model.cases import Case, generated, handwritten, problems

TARGETS = {"one": 0.92, "several": 0.75, "result": 0.95, "none": 0.95}
NAMES = {
    "one": "one call, name and all arguments",
    "several": "two or more parallel calls",
    "result": "answer that uses the result",
    "none": "no call when none is due",
}
COUNTS = {"one": 170, "several": 90, "result": 80, "none": 80}


def body_of(case: Case, model: str) -> dict[str, Any]:
    """The request as a client sends it."""
    body: dict[str, Any] = {"model": model, "messages": case.messages, "temperature": 0, "max_tokens": 400}
    if case.tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in case.tools]
    return body


def ask(base_url: str, key: str, body: dict[str, Any], timeout: float = 300) -> dict[str, Any]:
    """The assistant's message. Raises `urllib.error.HTTPError` with the gateway's status when it refuses."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        message: dict[str, Any] = json.load(answer)["choices"][0]["message"]
        return message


def canonical(name: str, arguments: Any) -> str:
    """A call as comparable text; 2 and 2.0 are the same number, true is not 1."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list):
            return [plain(v) for v in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return json.dumps([name, plain(arguments)], sort_keys=True, ensure_ascii=False)


def right(case: Case, message: dict[str, Any]) -> bool:
    """Whether the message is what the case wants."""
    got = message.get("tool_calls") or []
    if case.kind in ("one", "several"):
        try:
            said = [canonical(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in got]
        except ValueError:
            return False
        return sorted(said) == sorted(canonical(c["name"], c["arguments"]) for c in case.calls)
    text = (message.get("content") or "").casefold()
    return not got and all(any(holds(text, part.casefold()) for part in use.split("|")) for use in case.uses)


def holds(text: str, part: str) -> bool:
    """Whether `part` stands in `text` as words of its own (so that `no` is not found in `nothing`)."""
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None


def main() -> int:
    """Prove, ask, print a table; 1 when the proof fails or, with `--require`, when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", default="http://127.0.0.1:52525/v1")
    parser.add_argument(
        "--models", default="tandem-demo-qwen,tandem-demo-llama", help="asked in turn, one request each"
    )
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--sample", type=int, default=10_000, help="training documents to draw for the proof")
    parser.add_argument("--prove-only", action="store_true")
    parser.add_argument("--require", action="store_true", help="fail when a generated figure misses its target")
    parser.add_argument("--json", type=Path, help="write every request, answer and verdict there")
    parser.add_argument("--misses", type=int, default=0, help="show so many wrong answers")
    args = parser.parse_args()

    sets = {"generated": generated(COUNTS), "by hand": handwritten()}
    found = [f"{name}: {p}" for name, cases in sets.items() for p in problems(cases, args.sample)]
    if found:
        print("NOT disjoint from training:", *found, sep="\n  ")
        return 1
    total = sum(len(cases) for cases in sets.values())
    parts = ", ".join(f"{len(cases)} {name}" for name, cases in sets.items())
    print(f"{total} requests ({parts}); no tool, value or phrasing of theirs is in training")
    if args.prove_only:
        return 0

    models = args.models.split(",")
    jobs = [(name, case, models[i % len(models)]) for name, cases in sets.items() for i, case in enumerate(cases)]
    key = os.environ.get("TANDEM_API_KEY", "none").split(",")[0]
    with ThreadPoolExecutor(args.concurrency) as pool:
        answers = list(pool.map(lambda job: ask(args.base_url, key, body_of(job[1], job[2])), jobs))

    tally: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    rows = []
    for (name, case, model), message in zip(jobs, answers, strict=True):
        ok = right(case, message)
        rows.append(
            {
                "set": name,
                "model": model,
                "id": case.id,
                "kind": case.kind,
                "right": ok,
                "asked": case.messages[-1]["content"],
                "calls": case.calls,
                "uses": case.uses,
                "answer": message,
            }
        )
        for column in (model, "all"):
            tally[name, case.kind, column][0] += ok
            tally[name, case.kind, column][1] += 1
    missed = False
    for name in sets:
        print(f"\n{name}")
        for kind, target in TARGETS.items():
            cells = "".join(
                f"  {column}: {a}/{n} = {100 * a / n:5.1f} %"
                for column in ("all", *models)
                if (n := tally[name, kind, column][1]) and (a := tally[name, kind, column][0]) >= 0
            )
            a, n = tally[name, kind, "all"]
            missed |= name == "generated" and a < target * n
            print(f"  {NAMES[kind]:34} target {100 * target:.0f} % {cells}")
    for row in [r for r in rows if not r["right"]][: args.misses]:
        print("\n" + json.dumps(row, ensure_ascii=False))
    if args.json:
        args.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    return int(args.require and missed)


if __name__ == "__main__":
    sys.exit(main())
