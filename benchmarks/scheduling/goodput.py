"""The highest load at which 95 % of requests end within twice the base."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from benchmarks.scheduling.arms import HALO, Arm
from benchmarks.scheduling.bounds import ON_TIME, bounds_of
from benchmarks.scheduling.experiment import GOOD_SCALE, Cell, Run, Wanted, arriving_in, mean_of
from benchmarks.scheduling.fleets import base_s, fleet_named

#: Loads between which it is looked for, and how finely.
LEAST, MOST, STEP = 0.1, 1.3, 0.02

#: What no rule exceeds.
BOUND = "bound"

#: Runs of what is wanted.
RunAll = Callable[[Sequence[Wanted]], Sequence[Run]]


@dataclass(frozen=True, slots=True)
class Goodput:
    """`load` is a multiple of saturation, `per_s` requests a second; both 0 where even the least load is too much."""

    cell: Cell
    arm: str
    load: float
    per_s: float


def goodput_of(cell: Cell, arm: Arm, seeds: Sequence[int], data: Path | None, run_all: RunAll) -> Goodput:
    """By halving, over the same seeds at every load; the cell's own load is not looked at."""

    def at(load: float) -> tuple[float, float]:
        runs = run_all([Wanted(replace(cell, load=load), seed, arm, data) for seed in seeds])
        return mean_of(runs, "good"), runs[0].per_s

    return Goodput(cell, arm.name, *_highest(at))


def goodput_bound(cell: Cell, seeds: Sequence[int], data: Path | None) -> Goodput:
    """The load above which `bounds.bounds_of` says that no rule keeps up, over the same requests."""
    fleet = fleet_named(cell.fleet, cell.calibration)
    in_time_s = GOOD_SCALE * base_s(fleet)

    def at(load: float) -> tuple[float, float]:
        drawn = [arriving_in(Wanted(replace(cell, load=load), seed, Arm(HALO), data)) for seed in seeds]
        good = fmean(bounds_of(arriving, fleet, cell.reuse, in_time_s).good for _, arriving in drawn)
        return good, drawn[0][0]

    return Goodput(cell, BOUND, *_highest(at))


def _highest(at: Callable[[float], tuple[float, float]]) -> tuple[float, float]:
    """The load and the rate, of what tells the share in time and the rate at a load."""
    (good, per_s), low, high = at(LEAST), LEAST, MOST
    if good < ON_TIME:
        return 0.0, 0.0
    while high - low > STEP:
        middle = (low + high) / 2
        good, rate = at(middle)
        if good >= ON_TIME:
            per_s, low = rate, middle
        else:
            high = middle
    return low, per_s
