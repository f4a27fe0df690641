"""What sharing steps and keeping the ring full are worth, on stages that take 20 ms a step whatever the batch is.

Real shards of a tiny model and real links over memory, in one process; each ratio is the median over interleaved
rounds of one run:

- many clients / one client, on two stages: ``>= 4`` wanted;
- three steps in flight / one in flight, on three stages with one row a lane: ``>= 2.7`` wanted.

Ends with 1 if one is missed.

    scripts/bench_lanes.py [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "node" / "serving"))

from bench.command import make_parser, save
from local_ring import local_ring

PACE = 0.02
SHARED_TARGET, FULL_TARGET = 4.0, 2.7


async def rate(stages: int, clients: int, tokens: int, **limits: int) -> float:
    """Tokens per second of so many clients together."""
    async with local_ring(stages, pace=PACE, **limits) as ring:
        await ring.generate([1, 2], 2)
        begin = time.perf_counter()
        answers = await asyncio.gather(*(ring.generate([1, 2 + index], tokens) for index in range(clients)))
        return sum(map(len, answers)) / (time.perf_counter() - begin)


async def measure(rounds: int) -> dict[str, float | bool]:
    """Medians of every rate, and the two ratios."""
    rates: dict[str, list[float]] = {"one": [], "sixteen": [], "in_flight_1": [], "in_flight_3": []}
    for _ in range(rounds):
        rates["one"].append(await rate(2, 1, 24))
        rates["sixteen"].append(await rate(2, 16, 48))
        rates["in_flight_1"].append(await rate(3, 1, 24, max_rows=1))
        rates["in_flight_3"].append(await rate(3, 3, 72, max_rows=1))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    shared = statistics.median(many / one for many, one in zip(rates["sixteen"], rates["one"], strict=True))
    full = statistics.median(many / one for many, one in zip(rates["in_flight_3"], rates["in_flight_1"], strict=True))
    passed = shared >= SHARED_TARGET and full >= FULL_TARGET
    return {**medians, "shared_ratio": shared, "full_ratio": full, "passed": passed}


def main() -> int:
    """The command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    figures = asyncio.run(measure(arguments.rounds))
    print("tokens/s          one   many")
    print(f"two stages     {figures['one']:6.0f} {figures['sixteen']:6.0f}   one client, sixteen clients")
    print(f"three stages   {figures['in_flight_1']:6.0f} {figures['in_flight_3']:6.0f}   one step in flight, three")
    print(f"sixteen clients / one: {figures['shared_ratio']:.2f} x (wanted: {SHARED_TARGET})")
    print(f"three in flight / one: {figures['full_ratio']:.2f} x (wanted: {FULL_TARGET})")
    save(figures, arguments.json)
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
