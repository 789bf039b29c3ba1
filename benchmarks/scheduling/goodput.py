"""The highest load at which 95 % of requests end within twice the base."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.scheduling.arms import Arm
from benchmarks.scheduling.bounds import ON_TIME
from benchmarks.scheduling.experiment import Cell, Run, Wanted, mean_of

#: Loads between which it is looked for, and how finely.
LEAST, MOST, STEP = 0.1, 1.3, 0.02

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

    def at(load: float) -> Sequence[Run]:
        return run_all([Wanted(replace(cell, load=load), seed, arm, data) for seed in seeds])

    good, low, high = at(LEAST), LEAST, MOST
    if mean_of(good, "good") < ON_TIME:
        return Goodput(cell, arm.name, 0.0, 0.0)
    while high - low > STEP:
        middle = (low + high) / 2
        runs = at(middle)
        if mean_of(runs, "good") >= ON_TIME:
            good, low = runs, middle
        else:
            high = middle
    return Goodput(cell, arm.name, low, good[0].per_s)
