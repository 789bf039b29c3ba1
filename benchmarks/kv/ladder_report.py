"""What the ladder measured, as figures and as a table; runs of several calls merge."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.intervals import ratio_interval
from benchmarks.kv.arms import INFERRED, ORACLE, OURS, PAPER, PRIORITY, STOCK
from benchmarks.kv.results import Outcome

HEAD = (
    f"{'arm':>16}  rounds  mean s   P95 s  makespan  TTFT s  prefilled  of least  hits"
    f"  {'stock/arm mean (95 %)':>23}  P95  failed"
)


@dataclass(frozen=True, slots=True)
class Cell:
    """`load` is a multiple of the knee (`1.25 x knee`) or of the KV cache in programs at once (`2 x KV`)."""

    trace: str
    load: str

    def __str__(self) -> str:
        return f"{self.trace}, {self.load}"


@dataclass(frozen=True, slots=True)
class Run:
    """One arm under one load. `session` and `round` together say which runs stood side by side.

    Equal `seed`, `per_s` and `at_once` of one cell mean equal programs at equal times, whatever the session.
    """

    cell: Cell
    session: str
    round: int
    arm: str
    simulated: bool
    seed: int
    per_s: float
    at_once: int
    flags: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Goal:
    """`base` by `arm` of `figure` has to come to `least` at these loads of a trace."""

    trace: str
    loads: tuple[str, ...]
    base: str
    arm: str
    figure: str
    least: float


BUSY, LIGHT = ("1.25 x knee", "1.5 x knee"), ("0.3 x knee",)
GOALS = (
    Goal("swe", BUSY, STOCK, OURS, "mean_s", 3.0),
    Goal("swe", BUSY, PRIORITY, OURS, "mean_s", 2.2),
    Goal("swe", BUSY, PAPER, OURS, "mean_s", 1.15),
    Goal("swe", BUSY, STOCK, OURS, "p95_s", 2.2),
    Goal("swe", BUSY, ORACLE, OURS, "mean_s", 1 / 1.15),
    Goal("bfcl", BUSY, STOCK, OURS, "mean_s", 2.0),
    Goal("heavy-tail", BUSY, PAPER, OURS, "mean_s", 1.25),
    *(Goal(trace, LIGHT, STOCK, OURS, "mean_s", 0.98) for trace in ("swe", "bfcl", "chat", "unhinted-mix")),
    *(Goal(trace, BUSY, STOCK, OURS, "mean_s", 0.98) for trace in ("chat", "unhinted-mix")),
)
KEPT_UNTOLD = 0.85


def write_runs(path: Path, settings: Mapping[str, Any], runs: Sequence[Run], skipped: Sequence[str]) -> None:
    report = {"settings": settings, "skipped": list(skipped), "runs": [asdict(run) for run in runs]}
    path.write_text(json.dumps(report, indent=1))


def read_runs(paths: Iterable[Path]) -> list[Run]:
    return [_run(record) for path in paths for record in json.loads(path.read_text())["runs"]]


def _run(record: dict[str, Any]) -> Run:
    return Run(**(record | {"cell": Cell(**record["cell"]), "outcome": Outcome(**record["outcome"])}))


def table(runs: Sequence[Run]) -> Iterator[str]:
    """A block for each cell, real runs before simulated ones; then goals, and what the simulation was wrong by."""
    for simulated in (False, True):
        own = [run for run in runs if run.simulated is simulated]
        cells = _by_cell(own)
        for cell, of_cell in cells.items():
            yield from _block(cell, of_cell)
        if own:
            yield ""
            yield "goals" + (", simulated in virtual time" if simulated else "")
            yield from _goal_lines(cells)
    yield from _error_lines(runs)


def _block(cell: Cell, runs: Sequence[Run]) -> Iterator[str]:
    first = runs[0]
    load = f"{first.per_s:.3g} programs/s" if first.per_s else f"{first.at_once} programs at once"
    simulated = "  SIMULATED: vLLM's scheduler in virtual time" if first.simulated else ""
    yield ""
    yield f"{cell} ({load}, {first.outcome.programs} programs a round){simulated}"
    yield HEAD
    yield from (_line(runs, arm) for arm in dict.fromkeys(run.arm for run in runs))


def _line(runs: Sequence[Run], arm: str) -> str:
    own = [run.outcome for run in runs if run.arm == arm]

    def mean(figure: str) -> float:
        return statistics.fmean(getattr(outcome, figure) for outcome in own)

    against = _compared(runs, STOCK, arm, "mean_s")
    tail = _compared(runs, STOCK, arm, "p95_s")
    ratio = f"{against[0]:7.2f} ({against[1]:.2f}..{against[2]:.2f})" if against else ""
    return (
        f"{arm:>16}  {len(own):6}  {mean('mean_s'):6.2f}  {mean('p95_s'):6.2f}  {mean('makespan_s'):8.1f}"
        f"  {mean('mean_ttft_s'):6.2f}  {mean('prefilled_tokens'):9,.0f}"
        f"  {mean('prefilled_tokens') / mean('least_prefill_tokens'):8.2f}  {mean('hit_share'):4.0%}"
        f"  {ratio:>23}  {f'{tail[0]:.2f}' if tail else '':>4}  {sum(outcome.failed for outcome in own):6}"
    )


def _goal_lines(cells: Mapping[Cell, Sequence[Run]]) -> Iterator[str]:
    for goal in GOALS:
        for load in goal.loads:
            runs = cells.get(Cell(goal.trace, load), ())
            found = _compared(runs, goal.base, goal.arm, goal.figure)
            if found:
                met = "met" if found[0] >= goal.least else "MISSED"
                what = f"{goal.trace}, {load}: {goal.base} / {goal.arm}, {goal.figure.removesuffix('_s')}"
                yield f"{what}: {found[0]:.2f} ({found[1]:.2f}..{found[2]:.2f}), wanted {goal.least:.2f}: {met}"
    for cell, runs in cells.items():
        yield from _untold_line(cell, runs)


def _untold_line(cell: Cell, runs: Sequence[Run]) -> Iterator[str]:
    """Of the seconds that hints gain over stock, those kept without any."""
    told, untold = (_compared(runs, STOCK, arm, "mean_s") for arm in (OURS, INFERRED))
    if told and untold and told[0] > 1.05:
        kept = (1 - 1 / untold[0]) / (1 - 1 / told[0])
        met = "met" if kept >= KEPT_UNTOLD else "MISSED"
        yield f"{cell}: untold keeps {kept:.0%} of the gain, wanted {KEPT_UNTOLD:.0%}: {met}"


def _error_lines(runs: Sequence[Run]) -> Iterator[str]:
    """How far the simulated prefill is from the real one, on equal programs at equal times."""
    real = {_load_key(run): run.outcome.prefilled_tokens for run in runs if not run.simulated}
    pairs: dict[tuple[Cell, str], list[float]] = defaultdict(list)
    for run in runs:
        if run.simulated and _load_key(run) in real:
            pairs[run.cell, run.arm].append(run.outcome.prefilled_tokens / real[_load_key(run)] - 1)
    if pairs:
        yield ""
        yield "simulated prefilled tokens against the real engine's, on the same programs"
    for (cell, arm), errors in pairs.items():
        yield f"{cell}, {arm}: {statistics.fmean(errors):+.1%} over {len(errors)} runs"


def _load_key(run: Run) -> tuple[Any, ...]:
    return run.cell.trace, run.seed, round(run.per_s, 6), run.at_once, run.arm, run.outcome.programs


def figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each cell, how many times as fast as its bases an arm was, in mean completion, with intervals."""
    found: list[dict[str, Any]] = []
    for simulated in (False, True):
        for cell, of_cell in _by_cell([run for run in runs if run.simulated is simulated]).items():
            for arm in dict.fromkeys(run.arm for run in of_cell):
                against = {base: _compared(of_cell, base, arm, "mean_s") for base in (STOCK, PRIORITY, PAPER, ORACLE)}
                ratios = {base: [round(one, 3) for one in ratio] for base, ratio in against.items() if ratio}
                found.append(asdict(cell) | {"simulated": simulated, "arm": arm, "times_as_fast_as": ratios})
    return found


def _compared(runs: Sequence[Run], base: str, arm: str, figure: str) -> tuple[float, float, float] | None:
    """What a figure of `base` is to that of `arm` in the same rounds, and its interval; None without such rounds."""
    of_base = {(run.session, run.round): getattr(run.outcome, figure) for run in runs if run.arm == base}
    pairs = [
        (of_base[run.session, run.round], getattr(run.outcome, figure))
        for run in runs
        if run.arm == arm and (run.session, run.round) in of_base
    ]
    return ratio_interval(pairs) if pairs and all(other > 0 for _, other in pairs) else None


def _by_cell(runs: Sequence[Run]) -> dict[Cell, list[Run]]:
    found: dict[Cell, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.cell].append(run)
    return found
