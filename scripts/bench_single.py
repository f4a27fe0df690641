"""What one stream through HTTP costs on one node, beside plain mlx-lm on the same model.

    scripts/bench_single.py [--pairs 7] [--json FILE]

Ours: a node daemon and a gateway, each a process of its own, and this process as the client, which reads the events of
``/v1/completions``. Theirs: ``mlx_lm.stream_generate`` in a process of its own. Both get the same 512 token ids and
give the same 128 tokens: greedy, in float32, ends of turn ignored; that the texts are equal is checked each time. The
two take turns, and which goes first alternates, so that whatever else the machine does falls on both.

Two random Llamas are measured, one that takes over 10 ms a step on a slow machine's CPU and one that takes about 2 ms.

- tokens/s: 127 tokens over the time from the first token to the last;
- first token: from the request (ours) or the call (theirs) to the first text;
- answer: from there to the last token, which shows whether a late first token made the tokens/s look better;
- CPU: seconds of it per answer, in node and gateway or in mlx-lm's process, which a busy machine moves least.

Medians are printed, and the medians of the pairs' ratios. Wanted, for models of at least 10 ms a step: 0.9 x the
tokens/s, and the first token within 1.2 x or 30 ms more.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cluster"))

from bench.command import make_parser, save
from bench.processes import Child, child
from running_cluster import running

from tandem import rpc

PROMPT, TOKENS = 512, 128
SECONDS = 300.0
"""For one run, on however slow a machine."""
RATE, FIRST, FIRST_MORE, JUDGED_STEP = 0.9, 1.2, 0.03, 0.01
SIZES = {
    "10 ms": {"hidden_size": 384, "num_hidden_layers": 8, "intermediate_size": 1024},
    "2 ms": {"hidden_size": 128, "num_hidden_layers": 6, "intermediate_size": 384},
}


@dataclass(frozen=True)
class Run:
    """One answer: its text, when its first and its last token came (seconds), and the CPU seconds that it took."""

    text: str
    first: float
    last: float
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens per second after the first."""
        return (TOKENS - 1) / (self.last - self.first)


# -- theirs


def serve_reference(folder: Path, size: str) -> None:
    """The other process: makes the model, then answers each line of token ids with a line of figures."""
    from make_model import DEMO, configurations, make_model
    from mlx_lm import stream_generate
    from mlx_lm.utils import load_model, load_tokenizer

    make_model(configurations()["llama"] | SIZES[size], folder, tokenizer=DEMO)
    model, _ = load_model(folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.eos_token_ids = set()
    print("ready", flush=True)
    for line in sys.stdin:
        prompt = json.loads(line)
        tokens, times = [], []
        cpu, begin = time.process_time(), time.perf_counter()
        for response in stream_generate(model, tokenizer, prompt, max_tokens=TOKENS):
            times.append(time.perf_counter())
            tokens.append(response.token)
        cpu = time.process_time() - cpu
        whole = not tokenizer.decode(tokens[:1]).endswith("\N{REPLACEMENT CHARACTER}")
        text = tokenizer.decode(tokens) if whole and len(tokens) == TOKENS else ""
        print(json.dumps(asdict(Run(text, times[0] - begin, times[-1] - begin, cpu))), flush=True)


class Reference:
    """Plain mlx-lm in a process of its own, which makes the model in ``folder`` first."""

    def __init__(self, process: Child) -> None:
        self._process = process

    @classmethod
    @contextmanager
    def started(cls, folder: Path, size: str) -> Iterator[Reference]:
        """The process while the block runs."""
        with child([__file__, "--reference", size, str(folder)]) as process:
            yield cls(process)

    def run(self, prompt: Sequence[int]) -> Run:
        """One answer. Its text is empty when the first token alone is no whole character."""
        return Run(**json.loads(self._process.ask(json.dumps(prompt))))


# -- ours


async def stream(base: str, model: str, prompt: Sequence[int]) -> Run:
    """One answer through the gateway."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    texts: list[str] = []
    first = last = 0.0
    usage: dict[str, Any] = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as session:
        begin = time.perf_counter()
        async with session.post(f"{base}/v1/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.content:
                now = time.perf_counter()
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise SystemExit(f"the stream broke: {chunk['error']}")
                usage = chunk.get("usage") or usage
                if chunk["choices"] and (text := chunk["choices"][0]["text"]):
                    texts.append(text)
                    first, last = first or now, now
    if usage["completion_tokens"] != TOKENS:
        raise SystemExit(f"{usage['completion_tokens']} tokens instead of {TOKENS}")
    return Run("".join(texts), first - begin, last - begin)


# -- both


def find_prompt(reference: Reference) -> tuple[list[int], str]:
    """Token ids whose answer begins with a whole character, so that its first token shows at once; and that answer."""
    for seed in range(16):
        draw = random.Random(seed)
        prompt = [draw.randrange(32, 2000) for _ in range(PROMPT)]
        if text := reference.run(prompt).text:
            return prompt, text
    raise SystemExit("no prompt whose answer begins with a whole character")


def measure(size: str, folder: Path, pairs: int) -> dict[str, Any]:
    """The figures for one model."""
    model = folder / "model"
    with Reference.started(model, size) as reference:
        prompt, text = find_prompt(reference)
        with running(folder, 1) as cluster:
            assert cluster.gateway is not None
            name = cluster.load(str(model)).served_names[0].name
            processes = [psutil.Process(daemon.process.pid) for daemon in (*cluster.nodes, cluster.gateway)]
            runs: list[tuple[Run, Run]] = []

            def ours() -> Run:
                before = cpu_seconds(processes)
                run = rpc.run(stream(cluster.base, name, prompt))
                if run.text != text:
                    raise SystemExit(f"not the text that mlx-lm gives:\n{run.text!r}\n{text!r}")
                return replace(run, cpu=cpu_seconds(processes) - before)

            ours()
            for number in range(pairs):
                if number % 2:
                    mine = ours()
                    runs.append((mine, reference.run(prompt)))
                else:
                    theirs = reference.run(prompt)
                    runs.append((ours(), theirs))
    return figures(runs)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """Seconds of CPU that the processes have used together."""
    times = [process.cpu_times() for process in processes]
    return float(sum(time.user + time.system for time in times))


def figures(runs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    """Medians of (ours, theirs) by column, and whether they are what is wanted; None where a step is too short."""
    columns: dict[str, Callable[[Run], float]] = {
        "tokens_per_s": lambda run: run.rate,
        "first_token_s": lambda run: run.first,
        "answer_s": lambda run: run.last,
        "cpu_s": lambda run: run.cpu,
    }
    table = {
        name: {
            "tandem": statistics.median(value(ours) for ours, _ in runs),
            "mlx_lm": statistics.median(value(theirs) for _, theirs in runs),
            "ratio": statistics.median(value(ours) / value(theirs) for ours, theirs in runs),
        }
        for name, value in columns.items()
    }
    more = statistics.median(ours.first - theirs.first for ours, theirs in runs)
    step = 1 / table["tokens_per_s"]["mlx_lm"]
    early = table["first_token_s"]["ratio"] <= FIRST or more <= FIRST_MORE
    good = table["tokens_per_s"]["ratio"] >= RATE and early
    return {
        "pairs": len(runs),
        "step_s": step,
        **table,
        "first_token_more_s": more,
        "passed": good if step >= JUDGED_STEP else None,
        "all": [[asdict(run) | {"text": None} for run in pair] for pair in runs],
    }


def report(result: dict[str, Any]) -> str:
    """The table of one model."""
    verdict = {True: "reached", False: "MISSED", None: "not judged, the steps are too short"}[result["passed"]]
    columns = [result[name] for name in ("tokens_per_s", "first_token_s", "answer_s", "cpu_s")]
    rows = [f"{who:8}" + "".join(f"{column[who]:15.2f}" for column in columns) for who in ("tandem", "mlx_lm", "ratio")]
    return "\n".join(
        (
            f"a model of {result['step_s'] * 1e3:.1f} ms a step, medians of {result['pairs']} interleaved pairs",
            f"{'':8}{'tokens/s':>15}{'first token s':>15}{'answer s':>15}{'CPU s':>15}",
            *rows,
            f"first token {result['first_token_more_s'] * 1e3:+.0f} ms; wanted: {RATE} x the tokens/s; "
            f"first token {FIRST} x or {FIRST_MORE * 1e3:+.0f} ms at most: {verdict}",
        )
    )


def main() -> int:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of answers per model")
    parser.add_argument("--only", choices=list(SIZES), help="one of the two models")
    parser.add_argument("--reference", nargs=2, metavar=("SIZE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reference:
        serve_reference(Path(arguments.reference[1]), arguments.reference[0])
        return 0
    results = {}
    for size in [arguments.only] if arguments.only else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            results[size] = measure(size, Path(folder), arguments.pairs)
        print(report(results[size]), flush=True)
    save(results, arguments.json)
    return 1 if any(result["passed"] is False for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
