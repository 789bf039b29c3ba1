"""What routing gains by following placement, on two unlike engines, in virtual time.

    python -m benchmarks.planner.placed_routing [--rows 64 1024] [--seeds 3] [--out FILE.json]

The core and the modelled engines run W1 to W6 as the live driver would, once with planned shares and once by predicted
completion alone. Answers, tools and their lengths are made up, the same for both. Engines are those of the simulator
(`executor.engines.model.profiles`), which were made apart from the planner's cost model. Told is the makespan without
over the makespan with: above 1, shares are quicker. Nothing here says how quick a real engine is.

- `quick and slow`: an H100 and an L4, both with every model: nothing is placed, and nothing may change.
- `one small`: an A100 with every model, an A10 that serves only the small one.

Jobs of no more rows than the engines take at once are not placed either.
"""

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean, median

from benchmarks.planner.placement import NAMES, WORKLOADS, table_of
from executor.drivers.foreseen import Foreseen
from executor.drivers.simulated import Arrival, PlanJob, Simulation, plan_for
from executor.engines.port import EngineSpec
from executor.events import BatchPlanned
from executor.planning import plan_batch
from planner.cost.history import NO_HISTORY
from planner.ir.ids import EngineId, JobId
from planner.ir.plan import Plan
from planner.table import Table

JOB = JobId("job")
SERVED = "Llama-3-8B"


def engine(gpu: str, *models: str) -> EngineSpec:
    return EngineSpec(EngineId(gpu), "modelled", models, gpu=gpu, served_names=dict.fromkeys(models, SERVED))


FLEETS = {
    "quick and slow": (engine("H100", *NAMES), engine("L4", *NAMES)),
    "one small": (engine("A100", *NAMES), engine("A10", "small")),
}


@dataclass(frozen=True)
class Compared:
    """Makespans in seconds of virtual time, of the median seed."""

    workload: str
    fleet: str
    rows: int
    without_s: float
    with_s: float
    ratio: float


def main() -> int:
    arguments = _arguments()
    print(f"{'workload':16}{'fleet':16}{'rows':>6}{'without s':>12}{'with s':>10}{'ratio':>8}")
    found = []
    for one in compared(arguments.rows, arguments.seeds):
        found.append(one)
        print(
            f"{one.workload:16}{one.fleet:16}{one.rows:6}{one.without_s:12.1f}{one.with_s:10.1f}{one.ratio:8.3f}",
            flush=True,
        )
    ratios = [one.ratio for one in found]
    print(f"geometric mean {geometric_mean(ratios):.3f}, least {min(ratios):.3f}")
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")
    return 0


def compared(rows: Sequence[int], seeds: int) -> Iterator[Compared]:
    """Not W5 and W6: there a tool does not take answers that are made up."""
    for count in rows:
        for fleet_name, fleet in FLEETS.items():
            for name, workflow in list(WORKLOADS.items())[:4]:
                table = table_of(workflow.plan, count)
                pairs = [_pair(workflow.plan, table, fleet, seed) for seed in range(seeds)]
                pair = sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]
                ratio = median(without_s / with_s for without_s, with_s in pairs)
                yield Compared(name, fleet_name, count, *pair, ratio)


def _pair(plan: Plan, table: Table, fleet: Sequence[EngineSpec], seed: int) -> tuple[float, float]:
    return makespan(plan, table, fleet, seed, _unplaced), makespan(plan, table, fleet, seed, plan_for)


def makespan(plan: Plan, table: Table, fleet: Sequence[EngineSpec], seed: int, plan_job: PlanJob) -> float:
    simulation = Simulation(fleet, Foreseen(NO_HISTORY, seed), plan_job=plan_job)
    job = asyncio.run(simulation.run([Arrival(0.0, JOB, plan, table)]))[JOB]
    return max(job.ended_at.values())


def _unplaced(job: JobId, plan: Plan, table: Table, at: float, fleet: Sequence[EngineSpec]) -> BatchPlanned:
    return plan_batch(job, plan, table, at)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
