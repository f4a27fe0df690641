"""What a hop costs a token, beside a bare grpc.aio hop and raw TCP.

    scripts/bench_hop.py [--rounds 9] [--only MODEL] [--json FILE]

A model is cut in two, and one sequence decodes greedily, so that each token makes two hops. Four rings take turns:

- tandem: two node daemons and ``GenerationService.Generate``, all of it real;
- bare: two processes with the same shards, which hand nothing but the bytes of the hidden states to a grpc.aio
  stream and take them from it, on uvloop, without scheduler, log or events. They compute on the loop's own thread,
  which a node cannot do: it has heartbeats and other streams to answer meanwhile;
- thread: the same, but computing in a thread of its own (the node's ``Worker``), there and back for each step;
- raw: blocking TCP between two such processes, computing in the same thread.

In all of them clocks around ``HeadShard.turn`` (epilogue, sampling, first layers) and ``Shard.apply`` (the other
layers) say how long a token's computing took in the very process that did it. What is left of the time from the
beginning of one turn to the beginning of the next is the cost of two hops: an overhead per hop and token of
``(period - computing) / 2``. So the gap between two messages is the same in all rings, and caches are as cold.
The hidden states are 1 KiB (the demo model) and 8 KiB (a random Llama of hidden size 2,048) a token.

Medians over the tokens of a turn, then over the rounds; each ratio is the median of the rounds' ratios. Wanted: tandem
at most 1.5 x bare. The difference of thread and bare is what handing over to a thread costs. Computing is printed too:
where it differs between the rings, something else took the processor.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.bare_ring import BareRing, serve
from bench.clocks import Figures
from bench.command import make_parser, save
from bench.tandem_ring import TandemRing, run_node

TARGET = 1.5
RINGS = ("tandem", "bare", "thread", "raw")
MODELS: dict[str, dict[str, int]] = {
    "demo": {},
    "8 KiB": {"hidden_size": 2048, "num_hidden_layers": 2, "intermediate_size": 2048, "num_attention_heads": 16},
}


def measure(size: str, folder: Path, rounds: int) -> dict[str, Any]:
    """The figures for one model."""
    from make_model import DEMO, configurations, make_model

    model = DEMO
    if MODELS[size]:
        model = folder / "model"
        make_model(configurations()["llama"] | MODELS[size], model, tokenizer=DEMO)
    with TandemRing.started(__file__, folder, str(model) if MODELS[size] else "tandem-demo") as tandem:
        segments = [stage.segments[0] for stage in tandem.pipeline.stages]
        ranges = [(segment.first_layer, segment.end_layer) for segment in segments]
        plan = {"folder": str(model), "ranges": ranges, "cast_to": "float32"}
        with (
            BareRing.started(__file__, plan | {"thread": False}) as bare,
            BareRing.started(__file__, plan | {"thread": True}) as threaded,
        ):
            ways = {
                "tandem": tandem.measure,
                "bare": lambda: bare.measure("grpc"),
                "thread": lambda: threaded.measure("grpc"),
                "raw": lambda: bare.measure("raw"),
            }
            for run in ways.values():
                run()
            rows = []
            for number in range(rounds):
                turn = number % len(RINGS)
                rows.append({name: ways[name]() for name in RINGS[turn:] + RINGS[:turn]})
    return figures(rows)


def figures(rows: Sequence[dict[str, Figures]]) -> dict[str, Any]:
    """Medians over the rounds, in microseconds."""
    result: dict[str, Any] = {"rounds": len(rows), "target": TARGET}
    for name in RINGS:
        result[name] = {
            "overhead_us": statistics.median(row[name].overhead for row in rows) * 1e6,
            "compute_us": statistics.median(row[name].compute for row in rows) * 1e6,
            "all_overhead_us": [row[name].overhead * 1e6 for row in rows],
        }
    for name in RINGS[1:]:
        result[f"to_{name}"] = statistics.median(row["tandem"].overhead / row[name].overhead for row in rows)
    pairs = {"hand_over_us": ("thread", "bare"), "own_us": ("tandem", "thread")}
    for key, (more, less) in pairs.items():
        result[key] = statistics.median(row[more].overhead - row[less].overhead for row in rows) * 1e6
    result["passed"] = result["to_bare"] <= TARGET
    return result


def report(size: str, result: dict[str, Any]) -> str:
    """The table of one model."""
    lines = [f"{size}, {result['rounds']} rounds", f"{'':8} {'us per hop':>10} {'computing us per token':>23}"]
    for name in RINGS:
        lines.append(f"{name:8} {result[name]['overhead_us']:10.0f} {result[name]['compute_us']:23.0f}")
    verdict = "reached" if result["passed"] else "MISSED"
    lines += (
        f"tandem / bare: {result['to_bare']:.2f} (wanted: at most {TARGET}: {verdict})",
        f"tandem / thread: {result['to_thread']:.2f}, tandem / raw: {result['to_raw']:.2f}",
        f"handing over to a thread and back costs {result['hand_over_us']:.0f} us of a hop, "
        f"log, scheduler and events {result['own_us']:.0f} us",
    )
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    if sys.argv[1:2] == ["--node"]:
        return run_node(sys.argv[2], sys.argv[3:])
    if sys.argv[1:2] == ["--bare"]:
        serve(*sys.argv[2:])
        return 0
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often the rings take turns")
    parser.add_argument("--only", choices=list(MODELS), help="one of the two models")
    arguments = parser.parse_args()
    results = {}
    for size in [arguments.only] if arguments.only else MODELS:
        with tempfile.TemporaryDirectory() as folder:
            results[size] = measure(size, Path(folder), arguments.rounds)
        print(report(size, results[size]), flush=True)
    save(results, arguments.json)
    return 0 if all(result["passed"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
