"""What the rules did: a table for each cell, the goals beside it, and all runs as JSON."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.intervals import ratio_interval
from benchmarks.scheduling.arms import BEST_CODED, BEST_WRITTEN, HALO, ORACLE, ROUND_ROBIN, WITHOUT_REUSE, is_swept
from benchmarks.scheduling.bounds import Bounds, mean_bounds
from benchmarks.scheduling.experiment import Cell, Run, mean_of, of_seeds
from benchmarks.scheduling.goodput import BOUND, Goodput
from benchmarks.scheduling.reuse import Reuse

#: From this multiple of saturation on, what comes is a burst.
BURST = 2.0
#: The steady state in which goals are set.
STEADY = 0.85
HEXGEN = "hexgen, best of all"
#: The best of its sweep by the share of requests in time.
HEXGEN_GOOD = "hexgen, most in time"
_NO_SHARE = 1e-9
_HEAD = f"{'rule':32}{'mean s':>8}{'/bound':>8}{'P95 s':>8}{'/bound':>8}{'SLO scale':>11}{'good':>6}{'cached':>8}"


@dataclass(frozen=True, slots=True)
class Goal:
    """`base` by Halo's rule of that figure, of which less is better, has to come to `least` in cells of that kind; of
    `good` Halo's by `base`."""

    base: str
    figure: str
    least: float
    burst: bool | None
    reuse: bool

    def ratio(self, base: float, ours: float) -> tuple[float, float]:
        """As numerator and denominator."""
        return (ours, max(base, _NO_SHARE)) if self.figure == "good" else (base, ours)


GOALS = (
    Goal(ROUND_ROBIN, "scale", 2.0, burst=True, reuse=False),
    Goal(HEXGEN, "scale", 1.2, burst=True, reuse=False),
    Goal(WITHOUT_REUSE, "p95_s", 3.5, burst=None, reuse=True),
    Goal(HEXGEN, "p95_s", 1.15, burst=None, reuse=True),
    Goal(HEXGEN_GOOD, "good", 1.5, burst=False, reuse=False),
    Goal(HEXGEN_GOOD, "good", 1.5, burst=False, reuse=True),
    Goal(ORACLE, "p95_s", 1 / 1.2, burst=None, reuse=False),
    Goal(ORACLE, "p95_s", 1 / 1.2, burst=None, reuse=True),
)
#: Halo's goodput by that of HexGen's best, in steady state.
GOODPUT_LEAST = 1.5


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal in a cell: the ratio that was reached, with its interval over seeds. Beside it what the oracle reaches,
    where it ran, what a fleet does at best that does as much as loads are multiples of, and what no rule exceeds."""

    cell: Cell
    goal: Goal
    ratio: float
    low: float
    high: float
    oracle: float | None
    in_turns: float
    bound: float

    @property
    def met(self) -> bool:
        return self.ratio >= self.goal.least


def with_best(runs: Sequence[Run]) -> dict[tuple[Cell, str], list[Run]]:
    """The runs of each arm of each cell, and those of HexGen's best alpha there under a name of their own."""
    found = of_seeds(runs)
    for cell in dict.fromkeys(run.cell for run in runs):
        for best in (BEST_CODED, BEST_WRITTEN):
            swept = [of_arm for (of, arm), of_arm in found.items() if of == cell and is_swept(arm, best)]
            if swept:
                found[cell, best] = min(swept, key=lambda of_arm: mean_of(of_arm, "p95_s"))
        bests = [found[cell, best] for best in (BEST_CODED, BEST_WRITTEN) if (cell, best) in found]
        if bests:
            found[cell, HEXGEN] = min(bests, key=lambda of_arm: mean_of(of_arm, "p95_s"))
            found[cell, HEXGEN_GOOD] = max(_hexgens(found, cell), key=lambda of_arm: mean_of(of_arm, "good"))
    return found


def judged(runs: Sequence[Run]) -> list[Judged]:
    """Every goal in every cell that it is set for and that has both arms."""
    found = with_best(runs)
    cells = dict.fromkeys(run.cell for run in runs)
    pairs = [(cell, goal) for goal in GOALS for cell in cells if _is_for(goal, cell)]
    return [
        _judged(cell, goal, found[cell, goal.base], found[cell, HALO], found.get((cell, ORACLE), []))
        for cell, goal in pairs
        if (cell, goal.base) in found and (cell, HALO) in found
    ]


def _judged(cell: Cell, goal: Goal, base: Sequence[Run], ours: Sequence[Run], oracle: Sequence[Run]) -> Judged:
    def by(figure_of: Callable[[Run], float], runs: Sequence[Run]) -> tuple[float, float, float]:
        of_seed = {run.seed: figure_of(run) for run in runs}
        both = [run for run in base if run.seed in of_seed]
        return ratio_interval([goal.ratio(getattr(run, goal.figure), of_seed[run.seed]) for run in both])

    def reached(run: Run) -> float:
        return float(getattr(run, goal.figure))

    def at_best(run: Run, limits: Bounds) -> float:
        """Of a scale, in the bases of the run: it is its P95 by them."""
        return limits.good if goal.figure == "good" else limits.p95_s * reached(run) / run.p95_s

    by_oracle = by(reached, oracle)[0] if oracle else None
    in_turns = by(lambda run: at_best(run, run.in_turns), ours)[0]
    bound = by(lambda run: at_best(run, run.bounds), ours)[0]
    return Judged(cell, goal, *by(reached, ours), by_oracle, in_turns, bound)


def table(runs: Sequence[Run]) -> Iterator[str]:
    """Simulated figures, so none of them belongs beside measured ones."""
    found = with_best(runs)
    for cell in dict.fromkeys(run.cell for run in runs):
        of_cell = {arm: of_arm for (of, arm), of_arm in found.items() if of == cell}
        one = next(iter(of_cell.values()))
        bounds = mean_bounds([run.bounds for run in one])
        yield f"\n{cell}: {mean_of(one, 'per_s'):.3f} requests/s, {cell.requests} requests, {len(one)} seeds"
        yield _HEAD
        yield f"{'bound':32}{bounds.mean_s:8.0f}{'':8}{bounds.p95_s:8.0f}{'':19}{bounds.good:6.2f}"
        for arm, of_arm in of_cell.items():
            yield _line(arm, of_arm)


def goals_table(found: Sequence[Judged]) -> Iterator[str]:
    yield "\nbeside it: with lengths known; a fleet that does as much as loads say; what no rule exceeds"
    yield f"{'goal':58}{'at least':>9}{'reached':>9}{'95 % of seeds':>18}{'oracle':>8}{'fleet':>7}{'bound':>7}"
    for one in found:
        name = f"{one.goal.base} / {HALO}, {one.goal.figure.removesuffix('_s')}"
        interval, verdict = f"{one.low:.2f} to {one.high:.2f}", "met" if one.met else "MISSED"
        oracle = "" if one.oracle is None else f"{one.oracle:.2f}"
        beside = f"{oracle:>8}{one.in_turns:7.2f}{one.bound:7.2f}"
        yield f"{name:58}{one.goal.least:9.2f}{one.ratio:9.2f}{interval:>18}{beside}  {verdict:7} {one.cell}"


def goodput_table(found: Sequence[Goodput]) -> Iterator[str]:
    """95 % of requests within twice the base; HexGen's best is the best of its arms there."""
    for cell in dict.fromkeys(one.cell for one in found):
        of_cell = {one.arm: one for one in found if one.cell == cell}
        yield f"\ngoodput, {cell.fleet} ({cell.calibration}), {cell.trace}, reuse: {cell.reuse}"
        for arm, one in of_cell.items():
            yield f"{arm:32}{one.load:6.2f} of saturation{one.per_s:8.3f} requests/s"
        best = max((one.per_s for arm, one in of_cell.items() if arm.startswith("hexgen")), default=0.0)
        if best and HALO in of_cell:
            ratio = of_cell[HALO].per_s / best
            verdict = "met" if ratio >= GOODPUT_LEAST else "MISSED"
            others = [f"{arm} {of_cell[arm].per_s / best:.2f}" for arm in (ORACLE, BOUND) if arm in of_cell]
            beside = f" ({', '.join(others)})" if others else ""
            yield f"{HALO} / {HEXGEN}: {ratio:.2f}{beside}, at least {GOODPUT_LEAST}: {verdict}"


def write_report(
    path: Path, settings: Mapping[str, Any], runs: Sequence[Run], goals: Sequence[Judged], goodputs: Sequence[Goodput]
) -> None:
    report = {
        "settings": settings,
        "runs": [asdict(run) for run in runs],
        "goals": [asdict(one) | {"met": one.met} for one in goals],
        "goodput": [asdict(one) for one in goodputs],
    }
    path.write_text(json.dumps(report, indent=1))


def _is_for(goal: Goal, cell: Cell) -> bool:
    burst, steady = cell.load >= BURST, cell.load == STEADY
    regime = {None: burst or steady, True: burst, False: steady}[goal.burst]
    return regime and (cell.reuse is Reuse.REQUEST if goal.reuse else cell.reuse is Reuse.NONE)


def _hexgens(found: Mapping[tuple[Cell, str], list[Run]], cell: Cell) -> list[list[Run]]:
    bests = (BEST_CODED, BEST_WRITTEN)
    return [runs for (of, arm), runs in found.items() if of == cell and any(is_swept(arm, best) for best in bests)]


def _line(arm: str, runs: Sequence[Run]) -> str:
    bounds = mean_bounds([run.bounds for run in runs])
    mean_s, p95_s = mean_of(runs, "mean_s"), mean_of(runs, "p95_s")
    name = f"{arm} ({runs[0].arm.rpartition('=')[2]})" if "best" in arm else arm
    times = f"{mean_s:8.0f}{mean_s / bounds.mean_s:8.2f}{p95_s:8.0f}{p95_s / bounds.p95_s:8.2f}"
    return f"{name:32}{times}{mean_of(runs, 'scale'):11.2f}{mean_of(runs, 'good'):6.2f}{mean_of(runs, 'cached'):8.2f}"
