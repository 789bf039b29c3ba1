"""How good placements are, in the cost model's world: against a proven bound, the optimum of small cases, and others.

    python -m benchmarks.planner.placement [--graphs 200] [--seed-from 0] [--budget SECONDS] [--rows 4096]
        [--out FILE.json]

Everything is simulated: seconds are those of the cost model, and no figure says anything about a real engine.

- graphs: random DAGs of 5 to 24 operators (every fifth a tool) on 4 to 32 GPUs of eight kinds, three models, one of
  which fits on some kinds only; told is the gap between what was found within the budget and the bound.
- exact: small cases that branch and bound can solve; told is how far above the optimum the search ends.
- workloads: W1 to W6 of Halo as Halo's own programs, planned from their rows, on 1, 4 and 8 mixed GPUs, with 1,024 rows
  and with 16; told is each rule's makespan over ours. Rules run as strongly as they allow
  (`planner.placement.baselines`); `epochs, m=2` is the published rule as released, `epochs, fine` has its epochs with
  our micro-batches.
- scale: 500 operators on 32 GPUs; 100,000 rows from rows to placement.

Rows matter as much as engines do: with few of them for each engine, what calls last for the one who waits (`lag_s`) is
a great part of the makespan, schedules have little to share out, and the bound is further from what can be reached.
`--rows 1024` shows that.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import TypeVar

import numpy as np

from benchmarks.planner.random_problems import LARGE, SHAPES, random_fleet, random_problem
from planner.explain import explain
from planner.ir.plan import Plan
from planner.job import JobPart
from planner.optimize import optimize
from planner.placement.baselines import BASELINES
from planner.placement.exact import exact
from planner.placement.of_job import problem_of
from planner.placement.place import place, usual_s
from planner.placement.problem import Problem
from planner.placement.search import Budget
from planner.placement.solve import solved
from planner.table import Table
from planner.timing import PricedEngine
from workloads.programs.bridge import bridge
from workloads.programs.diamond import diamond
from workloads.programs.fan_out import fan_out
from workloads.programs.long_chain import long_chain
from workloads.programs.trident import trident
from workloads.programs.triple_chain import triple_chain
from workloads.rows.draw_rows import draw_rows
from workloads.rows.sources import source_of

NAMES = dict(zip(("small", "medium", "large"), (shape.name for shape in SHAPES), strict=True))
WORKLOADS = {
    "W1 diamond": diamond,
    "W2 triple-chain": triple_chain,
    "W3 long-chain": long_chain,
    "W4 bridge": bridge,
    "W5 trident": trident,
    "W6 fan-out": fan_out,
}
FLEETS = {
    1: ("H100",),
    4: ("H100", "A100-80", "L40S", "A10"),
    8: ("H100", "H100", "A100-80", "A100-80", "L40S", "L40S", "A10", "A10"),
}
PIECES_AN_ENGINE = 128
_Line = TypeVar("_Line")
MEDIAN_GAP, WORST_GAP, NEAR_EXACT = 0.05, 0.12, 0.01
RATIO, TARGETED = 1.3, ("min-switch", "epochs, m=2")


@dataclass(frozen=True)
class Graph:
    seed: int
    engines: int
    operators: int
    bound_s: float
    gap: float
    took_s: float


@dataclass(frozen=True)
class Small:
    seed: int
    pieces: int
    exact_s: float
    above_exact: float
    above_bound: float


@dataclass(frozen=True)
class Workload:
    """`others` are makespans over ours: above 1, we are quicker."""

    name: str
    engines: int
    rows: int
    makespan_s: float
    gap: float
    others: Mapping[str, float]


@dataclass(frozen=True)
class Scale:
    what: str
    took_s: float
    target_s: float
    gap: float


def main() -> int:
    arguments = _arguments()
    graphs = list(
        _told(random_graphs(_seeds(arguments, arguments.graphs), arguments.rows, arguments.budget), _graph_line)
    )
    smalls = list(small_cases(_seeds(arguments, arguments.small)))
    print("\n".join([*_graph_summary(graphs, arguments), *_small_summary(smalls), "", _workload_heading()]))
    workloads = list(_told(all_workloads(arguments.budget), _workload_line))
    print("\n".join(_workload_summary(workloads)))
    scales = list(_told(all_scales(arguments.budget), _scale_line))
    if arguments.out:
        found = {"graphs": graphs, "exact": smalls, "workloads": workloads, "scale": scales}
        text = {name: [asdict(one) for one in ones] for name, ones in found.items()}
        arguments.out.write_text(json.dumps({"metric": "simulated makespans, s", **text}, indent=2) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--graphs", type=int, default=200, help="how many random DAGs")
    parser.add_argument("--small", type=int, default=60, help="how many small cases are tried to be solved exactly")
    parser.add_argument(
        "--seed-from", type=int, default=0, help="first seed of both; what was tuned was tuned on 0 to 299"
    )
    parser.add_argument("--rows", type=int, default=4096, help="rows of each random DAG")
    parser.add_argument("--budget", type=float, help="seconds the search may take, instead of the usual")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return parser.parse_args()


def _seeds(arguments: argparse.Namespace, count: int) -> range:
    return range(arguments.seed_from, arguments.seed_from + count)


def random_graphs(seeds: range, rows: int, budget_s: float | None) -> Iterator[Graph]:
    for seed in seeds:
        random = np.random.default_rng(seed)
        engines, operators = int(random.choice([4, 8, 16, 32])), int(random.integers(5, 25))
        batches = min(192, max(8, -(-PIECES_AN_ENGINE * engines // operators)))
        problem = random_problem(random, operators, random_fleet(random, engines), rows, batches)
        began = monotonic()
        found = solved(problem, timed(budget_s, problem), seed)
        yield Graph(seed, engines, operators, found.bound_s, found.gap, monotonic() - began)


def small_cases(seeds: range) -> Iterator[Small]:
    """Those that branch and bound can solve in 100,000 nodes."""
    for seed in seeds:
        random = np.random.default_rng(1000 + seed)
        operators, batches = int(random.integers(3, 6)), int(random.integers(1, 4))
        problem = random_problem(random, operators, random_fleet(random, int(random.integers(2, 4))), 256, batches)
        found = solved(problem, timed(None, problem), seed)
        best = exact(problem, found.schedule, most_nodes=100_000)
        if best is not None:
            above = found.schedule.makespan_s / best.makespan_s - 1
            yield Small(seed, operators * batches, best.makespan_s, above, best.makespan_s / found.bound_s - 1)


def all_workloads(budget_s: float | None) -> Iterator[Workload]:
    for rows in (1024, 16):
        for gpus in FLEETS.values():
            for name, workflow in WORKLOADS.items():
                yield workload(name, workflow.plan, gpus, rows, budget_s)


def workload(name: str, plan: Plan, gpus: Sequence[str], rows: int, budget_s: float | None) -> Workload:
    part = JobPart(plan, table_of(plan, rows))
    problem = problem_of(explain([part], optimize([part])), fleet(gpus)).problem
    found = solved(problem, timed(budget_s, problem))
    ours = found.schedule.makespan_s
    others = {rule: baseline(problem, 0).makespan_s / ours for rule, baseline in BASELINES.items()}
    return Workload(name, len(gpus), rows, ours, found.gap, others)


def all_scales(budget_s: float | None) -> Iterator[Scale]:
    random = np.random.default_rng(5)
    problem = random_problem(random, 500, random_fleet(random, 32), 1024, 8)
    began = monotonic()
    found = solved(problem, timed(budget_s, problem))
    yield Scale("500 operators on 32 GPUs", monotonic() - began, 1.0, found.gap)
    table = table_of(trident.plan, 100_000)
    began = monotonic()
    part = JobPart(trident.plan, table)
    placed = place(
        explain([part], optimize([part])), fleet(FLEETS[8]), budget=_within(budget_s or usual_s(len(FLEETS[8])))
    )
    yield Scale("100,000 rows of W5, passes and EXPLAIN included", monotonic() - began, 25.0, placed.gap)


def timed(budget_s: float | None, problem: Problem) -> Budget:
    """On the clock; as long as placement looks unless told."""
    return _within(budget_s or usual_s(len(problem.engines)))


def _within(seconds: float) -> Budget:
    return Budget(rounds=1_000_000, seconds=seconds, clock=monotonic)


def table_of(plan: Plan, rows: int) -> Table:
    """Rows of the workflow's own source, no two alike as far as it has that many."""
    source = source_of(plan.name.replace("_", "-"))
    return Table.from_rows(draw_rows(source, rows, max(0.0, 1 - source.size / rows), 1), plan.inputs)


def fleet(gpus: Sequence[str]) -> list[PricedEngine]:
    """Each with the models that fit on it; the first is loaded."""
    small_only = {name: own for name, own in NAMES.items() if name != "large"}
    return [PricedEngine(gpu, NAMES if gpu in LARGE else small_only, 1.0) for gpu in gpus]


def _told(found: Iterator[_Line], line: Callable[[_Line], str]) -> Iterator[_Line]:
    """Prints each as soon as it is there: some take long."""
    for one in found:
        print(line(one), flush=True)
        yield one


def _graph_line(one: Graph) -> str:
    met = "" if one.gap <= WORST_GAP else "  MISSED"
    return (
        f"graph {one.seed:3}: {one.operators:2} operators on {one.engines:2} engines, "
        f"bound {one.bound_s:7,.0f} s, gap {one.gap:6.1%}, found in {one.took_s:4.2f} s{met}"
    )


def _graph_summary(graphs: Sequence[Graph], arguments: argparse.Namespace) -> Iterator[str]:
    if not graphs:
        return
    gaps = [one.gap for one in graphs]
    middle, worst = median(gaps), max(gaps)
    told = f"{len(gaps)} graphs, {arguments.rows:,} rows, {_budget(arguments.budget)}"
    yield f"{told}: median gap {middle:.1%} ({_met(middle <= MEDIAN_GAP)}, target {MEDIAN_GAP:.0%})"
    yield f"{told}: worst gap {worst:.1%} ({_met(worst <= WORST_GAP)}, target {WORST_GAP:.0%})"
    for engines in sorted({one.engines for one in graphs}):
        of_size = [one.gap for one in graphs if one.engines == engines]
        yield f"  {engines:2} engines: median {median(of_size):5.1%}, worst {max(of_size):5.1%}"


def _budget(budget_s: float | None) -> str:
    return f"budget {budget_s:g} s" if budget_s else f"budget {usual_s(1):g} s, {usual_s(32):g} s with 32 engines"


def _small_summary(smalls: Sequence[Small]) -> Iterator[str]:
    if not smalls:
        return
    above = [one.above_exact for one in smalls]
    near = sum(one <= NEAR_EXACT for one in above) / len(above)
    yield (
        f"{len(smalls)} small cases solved exactly: above the optimum by {median(above):.2%} (median) and "
        f"{max(above):.2%} (worst, {_met(max(above) <= NEAR_EXACT)}, target {NEAR_EXACT:.0%}), within it in {near:.0%}"
    )
    yield f"  there the optimum is above the bound by {median(one.above_bound for one in smalls):.1%} (median)"


def _workload_heading() -> str:
    rules = "  ".join(f"{rule:>13}" for rule in BASELINES)
    return f"{'':17} {'engines':>7} {'rows':>6} {'ours, s':>8} {'gap':>6}  {rules}"


def _workload_line(one: Workload) -> str:
    others = "  ".join(f"{ratio:12.2f}x" for ratio in one.others.values())
    return f"{one.name:17} {one.engines:7} {one.rows:6,} {one.makespan_s:8.1f} {one.gap:6.1%}  {others}"


def _workload_summary(workloads: Sequence[Workload]) -> Iterator[str]:
    for rule in ("min-switch", "epochs, m=2", "epochs, fine", "operator-wise"):
        least = min(one.others[rule] for one in workloads if one.rows >= 1024 and one.engines > 1)
        target = f" ({_met(least >= RATIO)}, target {RATIO:g}x)" if rule in TARGETED else ""
        yield f"1,024 rows on several engines: {rule} takes at least {least:.2f} times as long{target}"
    lost = [f"{one.name} on {one.engines}: {rule}" for one in workloads for rule, r in one.others.items() if r < 0.995]
    yield f"beaten by a rule: {', '.join(lost) or 'never'}"


def _scale_line(one: Scale) -> str:
    met = _met(one.took_s <= one.target_s)
    return f"{one.what}: {one.took_s:.2f} s ({met}, target {one.target_s:g} s), gap {one.gap:.1%}"


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
