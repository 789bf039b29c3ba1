"""One cell of the benchmark: a fleet, a trace, a rate; each arm on the same requests at the same instants."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from statistics import fmean

from benchmarks.scheduling.arms import Arm
from benchmarks.scheduling.bounds import Bounds, at_least, bounds_of, in_turns, p95, saturation_per_s
from benchmarks.scheduling.fleets import base_s, fleet_named
from benchmarks.scheduling.programs import Asked
from benchmarks.scheduling.replay import Replayed, replay
from benchmarks.scheduling.reuse import Reuse
from benchmarks.scheduling.traces import Arriving, poisson, traces_in
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler

#: Saturation is that of so many requests of the trace.
_OF_THE_MIX = 300
#: Requests count as good where they end within so much of the base.
GOOD_SCALE = 2.0


@dataclass(frozen=True, slots=True)
class Cell:
    """`load` is a multiple of what the fleet keeps up with, with that reuse (`bounds.saturation_per_s`)."""

    fleet: str
    calibration: str
    trace: str
    reuse: Reuse
    load: float
    requests: int

    def __str__(self) -> str:
        measured = "" if self.calibration == "cost model" else f" ({self.calibration})"
        return f"{self.fleet}{measured}, {self.trace}, reuse: {self.reuse}, load {self.load:g}"


@dataclass(frozen=True, slots=True)
class Run:
    """One arm on one seed of a cell. `scale` is the SLO scale, in bases, at which 95 % of requests are in time; `good`
    the share of them that is at `GOOD_SCALE`. `in_turns` is what a fleet could reach that does as much as loads are
    multiples of: less than `bounds` allow, and no bound."""

    cell: Cell
    seed: int
    arm: str
    per_s: float
    mean_s: float
    p95_s: float
    makespan_s: float
    scale: float
    good: float
    cached: float
    bounds: Bounds
    in_turns: Bounds


@dataclass(frozen=True, slots=True)
class Wanted:
    cell: Cell
    seed: int
    arm: Arm
    data: Path | None


def run_all(wanted: Sequence[Wanted], processes: int) -> Iterator[Run]:
    """In that order, `processes` at a time."""
    if processes == 1:
        yield from map(run_one, wanted)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_one, wanted)


def run_one(wanted: Wanted) -> Run:
    """The same for the same values, in any process."""
    cell, arm = wanted.cell, wanted.arm
    fleet = fleet_named(cell.fleet, cell.calibration)
    per_s, arriving = arriving_in(wanted)
    reuse = cell.reuse if arm.shares else Reuse.NONE
    base = base_s(fleet)
    core = Scheduler(fleet, Limits(active_programs=max(512, len(arriving))), arm.rule)
    replayed = replay(arriving, fleet, core, Asked(GOOD_SCALE * base, reuse, arm.rule.knows_lengths))
    limits = (bounds_of(arriving, fleet, reuse, GOOD_SCALE * base, taking) for taking in (at_least, in_turns))
    return _measured(wanted, per_s, base, replayed, *limits)


def arriving_in(wanted: Wanted) -> tuple[float, list[Arriving]]:
    """The rate a second, and the requests of the seed at it."""
    cell, random = wanted.cell, Random(wanted.seed)
    per_s = cell.load * _saturation_per_s(cell.fleet, cell.calibration, cell.trace, cell.reuse, wanted.data)
    requests = traces_in(wanted.data)[cell.trace](cell.requests, random)
    return per_s, poisson(requests, per_s, random)


@cache
def _saturation_per_s(fleet: str, calibration: str, trace: str, reuse: Reuse, data: Path | None) -> float:
    mix = traces_in(data)[trace](_OF_THE_MIX, Random(0))
    return saturation_per_s(mix, fleet_named(fleet, calibration), reuse)


def of_seeds(runs: Iterable[Run]) -> dict[tuple[Cell, str], list[Run]]:
    """The runs of each arm of each cell."""
    found: dict[tuple[Cell, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.cell, run.arm), []).append(run)
    return found


def mean_of(runs: Sequence[Run], figure: str) -> float:
    return fmean(float(getattr(run, figure)) for run in runs)


def _measured(wanted: Wanted, per_s: float, base: float, replayed: Replayed, bounds: Bounds, reachable: Bounds) -> Run:
    took = [one.took_s for one in replayed.ended]
    tail_s = p95(took)
    return Run(
        cell=wanted.cell,
        seed=wanted.seed,
        arm=wanted.arm.name,
        per_s=per_s,
        mean_s=fmean(took),
        p95_s=tail_s,
        makespan_s=max(one.ended_s for one in replayed.ended) - replayed.ended[0].arrived_s,
        scale=tail_s / base,
        good=sum(seconds <= GOOD_SCALE * base for seconds in took) / len(took),
        cached=replayed.work.cached_tokens / replayed.work.prompt_tokens,
        bounds=bounds,
        in_turns=reachable,
    )
