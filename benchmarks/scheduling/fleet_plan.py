"""The cheapest fleet of `planner.fleet` against exhaustive search on small cases, and its time on large ones.

    python -m benchmarks.scheduling.fleet_plan [--cases 40] [--seed 1] [--out FILE.json]

Small cases are drawn: two or three GPU kinds at random prices, two or three classes of calls, bounds on latency.
Exhaustive search divides each class among the kinds in quarters in every way there is, gives each kind the fewest
engines whose queues keep the bounds with what it got, and takes the cheapest. It shares no step with the plan but the
queue of one engine. The plan may be cheaper, for it divides classes more finely.

Large cases take all GPU kinds as shipped, with one to eight GPUs for an engine. Seconds are of one core.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from math import inf
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from halo.fleet.engines import kinds_for
from halo.prices import read_prices
from planner.errors import FleetImpossible
from planner.fleet.capacity import Capacities, bounds_of_classes
from planner.fleet.kinds import EngineKind
from planner.fleet.mix import cheapest_mix
from planner.fleet.workload import CallClass, Slo, Workload

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
GAP, SECONDS = 0.05, 5.0
PARTS = 4
_MOST_ENGINES = 64

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    small = [small_case(Random(asked.seed * 1000 + number)) for number in range(asked.cases)]
    large = [large_case(Random(asked.seed * 1000 + number), classes) for number, classes in enumerate((2, 5, 10, 20))]
    result = {"small": small, "large": large, "goal": goal(small, large)}
    print_result(result)
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2) + "\n")


def small_case(random: Random) -> Row:
    """A drawn case, as the plan and as exhaustive search see it."""
    workload, slo, kinds = drawn(random)
    begun = time.process_time()
    try:
        planned = cheapest_mix(workload, slo, kinds).usd_per_hour
    except FleetImpossible:
        planned = inf
    seconds = time.process_time() - begun
    exhaustive = cheapest_of_all(workload, slo, kinds)
    ratio = planned / exhaustive if exhaustive < inf else (1.0 if planned == inf else 0.0)
    return {
        "kinds": [kind.name for kind in kinds],
        "classes": len(workload.calls),
        "programs_per_s": workload.programs_per_s,
        "planned_usd": None if planned == inf else planned,
        "exhaustive_usd": None if exhaustive == inf else exhaustive,
        "ratio": ratio,
        "plan_s": seconds,
    }


def large_case(random: Random, classes: int) -> Row:
    calls = tuple(drawn_call(random, number) for number in range(classes))
    workload = Workload(random.uniform(5, 50), calls)
    kinds = kinds_for(workload, (), read_prices({}))
    begun = time.process_time()
    mix = cheapest_mix(workload, Slo(token_s=0.06, first_token_s=2.0), kinds)
    seconds = time.process_time() - begun
    return {"classes": classes, "kinds": len(kinds), "plan_s": seconds, "usd": mix.usd_per_hour}


def drawn(random: Random) -> tuple[Workload, Slo, list[EngineKind]]:
    """A small case: rent may be up to twice and down to half of what is shipped."""
    shipped = read_prices({})
    names = random.sample(["H100", "A100-80", "L40S", "A6000", "A10", "L4", "RTX-4090"], random.choice((2, 3)))
    rent = {name: round(shipped[name] * random.uniform(0.5, 2), 2) for name in names}
    calls = tuple(drawn_call(random, number) for number in range(random.choice((2, 3))))
    workload = Workload(random.uniform(0.3, 6), calls)
    slo = Slo(
        token_s=random.choice((None, 0.05, 0.1)),
        first_token_s=random.choice((None, 1.0, 3.0)),
        call_s=random.choice((None, 20.0)),
    )
    return workload, slo, kinds_for(workload, [f"{name}={usd}" for name, usd in rent.items()], shipped, most_gpus=1)


def drawn_call(random: Random, number: int) -> CallClass:
    prompt = random.choice((200, 1000, 3000, 8000))
    cached = random.choice((0, 0, prompt // 2))
    return CallClass(f"class {number}", MODEL, prompt, random.choice((30, 150, 500)), random.choice((1, 3)), cached)


def cheapest_of_all(workload: Workload, slo: Slo, kinds: Sequence[EngineKind]) -> float:
    """Over every division of every class in quarters. Infinite where none keeps the bounds."""
    capacities = Capacities(bounds_of_classes(workload, slo, kinds), slo.share)

    @cache
    def usd(kind: EngineKind, parts: tuple[int, ...]) -> float:
        rates = {
            call: workload.rate(call) * part / PARTS for call, part in zip(workload.calls, parts, strict=True) if part
        }
        return kind.usd_per_hour * fewest(kind, rates, capacities) if rates else 0.0

    divisions = list(_divisions(len(kinds)))
    costs = (
        sum(usd(kind, tuple(division[place] for division in chosen)) for place, kind in enumerate(kinds))
        for chosen in product(divisions, repeat=len(workload.calls))
    )
    return min(costs)


def fewest(kind: EngineKind, rates: Mapping[CallClass, float], capacities: Capacities) -> float:
    """Engines of the kind that keep the bounds of all that comes, in equal parts; infinite where too many would."""
    for engines in range(1, _MOST_ENGINES + 1):
        if capacities.keeps(kind, {call: rate / engines for call, rate in rates.items()}):
            return engines
    return inf


def _divisions(kinds: int, parts: int = PARTS) -> Iterator[tuple[int, ...]]:
    if kinds == 1:
        yield (parts,)
        return
    for first in range(parts + 1):
        for rest in _divisions(kinds - 1, parts - first):
            yield (first, *rest)


def goal(small: Sequence[Row], large: Sequence[Row]) -> Row:
    worst = max(row["ratio"] for row in small)
    slowest = max(row["plan_s"] for row in (*small, *large))
    return {
        "worst_ratio": worst,
        "mean_ratio": mean(row["ratio"] for row in small),
        "slowest_s": slowest,
        "reached": worst <= 1 + GAP and slowest < SECONDS,
    }


def print_result(result: Row) -> None:
    print(f"{'kinds':34} classes  programs/s  plan USD/h  exhaustive USD/h  ratio  plan s")
    for row in result["small"]:
        planned, exhaustive = (f"{usd:.2f}" if usd is not None else "-" for usd in _costs(row))
        figures = (
            f"{row['programs_per_s']:10.2f}  {planned:>10}  {exhaustive:>16}  {row['ratio']:5.3f}  {row['plan_s']:6.2f}"
        )
        print(f"{', '.join(row['kinds']):34} {row['classes']:7}  {figures}")
    print("\nall kinds shipped:  classes  kinds  USD/h  plan s")
    for row in result["large"]:
        print(f"{row['classes']:27}  {row['kinds']:5}  {row['usd']:5.1f}  {row['plan_s']:6.2f}")
    found = result["goal"]
    print(
        f"\nplan / exhaustive: {found['worst_ratio']:.3f} at worst, {found['mean_ratio']:.3f} on average"
        f" (goal {1 + GAP}); slowest plan {found['slowest_s']:.2f} s (goal {SECONDS:g});"
        f" {'reached' if found['reached'] else 'missed'}"
    )


def _costs(row: Row) -> tuple[float | None, float | None]:
    return row["planned_usd"], row["exhaustive_usd"]


if __name__ == "__main__":
    main()
