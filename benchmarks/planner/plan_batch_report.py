"""What `plan_batch` measured, as figures and as a table; runs of several calls merge."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.intervals import median_interval, resampled_interval
from benchmarks.planner.plan_batch_cells import Cell
from planner.ir.values import Json

BASE, AGAIN = "client", "client again"
HEAD = (
    f"{'arm':>14}  rounds  seconds  speed-up  (range)        CPU s   calls  distinct  tools"
    "  prefilled  same rows  failed rows"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One arm on one round's rows. `session` and `round` together say which runs stood side by side.

    `calls` were made at run time; of a client's, `distinct_calls` differ (0: not counted). `same_rows` counts the rows
    whose result is that of the base arm in the same round. `cpu_s` is this process's and its tool workers', without
    the engine's.
    """

    cell: Cell
    session: str
    round: int
    arm: str
    bounds: str
    seconds: float
    cpu_s: float
    calls: int
    distinct_calls: int
    tools: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    failed_rows: int
    same_rows: int


def write_runs(path: Path, settings: Mapping[str, Json], runs: Sequence[Run], skipped: Sequence[str]) -> None:
    report = {"settings": settings, "skipped": list(skipped), "runs": [asdict(run) for run in runs]}
    path.write_text(json.dumps(report, indent=1))


def read_runs(paths: Iterable[Path]) -> list[Run]:
    return [_run(record) for path in paths for record in json.loads(path.read_text())["runs"]]


def _run(record: dict[str, Any]) -> Run:
    return Run(**(record | {"cell": Cell(**record["cell"])}))


def table(runs: Sequence[Run]) -> Iterator[str]:
    """A block for each cell, then the geometric means over workflows."""
    cells = _by_cell(runs)
    for cell, of_cell in cells.items():
        yield ""
        yield str(cell)
        yield HEAD
        yield from (_line(of_cell, arm) for arm in dict.fromkeys(run.arm for run in of_cell))
    yield ""
    yield "geometric means of speed-ups over workflows (95 % interval from resampled rounds)"
    for group, of_group in _by_setting(cells).items():
        for arm in dict.fromkeys(run.arm for of_cell in of_group for run in of_cell if run.arm != BASE):
            yield _mean_line(group, arm, of_group)


def figures(runs: Sequence[Run]) -> list[dict[str, Json]]:
    """The table's speed-ups, for other programs."""
    found: list[dict[str, Json]] = []
    for cell, of_cell in _by_cell(runs).items():
        for arm in dict.fromkeys(run.arm for run in of_cell):
            ratios = _ratios(of_cell, arm)
            if ratios:
                low, high = median_interval(ratios)
                middle = statistics.median(ratios)
                found.append(
                    asdict(cell) | {"arm": arm, "speedup": middle, "interval": [low, high], "rounds": len(ratios)}
                )
    return found


def _line(runs: Sequence[Run], arm: str) -> str:
    own = [run for run in runs if run.arm == arm]
    ratios = _ratios(runs, arm)
    low, high = median_interval(ratios) if ratios else (0.0, 0.0)

    def middle(figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in own))

    prefilled = statistics.median(run.prompt_tokens - run.cached_tokens for run in own)
    speedup = statistics.median(ratios) if ratios else 0.0
    return (
        f"{arm:>14}  {len(own):6}  {middle('seconds'):7.2f}  {speedup:8.2f}  ({low:.2f}..{high:.2f})"
        f"  {middle('cpu_s'):6.2f}  {middle('calls'):6.0f}  {middle('distinct_calls'):8.0f}"
        f"  {middle('tools'):5.0f}  {prefilled:9,.0f}"
        f"  {middle('same_rows'):5.0f}/{own[0].cell.n:<4}  {middle('failed_rows'):5.0f}"
    )


def _mean_line(group: str, arm: str, cells: Sequence[Sequence[Run]]) -> str:
    by_cell = [ratios for of_cell in cells if (ratios := _ratios(of_cell, arm))]
    low, high = resampled_interval(
        lambda draw: statistics.geometric_mean(
            statistics.median(draw.choices(ratios, k=len(ratios))) for ratios in by_cell
        )
    )
    mean = statistics.geometric_mean(statistics.median(ratios) for ratios in by_cell)
    return f"{group}: {arm:>14}  {mean:.2f}  ({low:.2f}..{high:.2f})  over {len(by_cell)} workflows"


def _ratios(runs: Sequence[Run], arm: str) -> list[float]:
    """How many times as fast as the base arm of the same round, by round."""
    base = {(run.session, run.round): run.seconds for run in runs if run.arm == BASE}
    own = [run for run in runs if run.arm == arm and (run.session, run.round) in base]
    return [base[run.session, run.round] / run.seconds for run in own]


def _by_cell(runs: Sequence[Run]) -> dict[Cell, list[Run]]:
    found: dict[Cell, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.cell].append(run)
    return found


def _by_setting(cells: Mapping[Cell, list[Run]]) -> dict[str, list[list[Run]]]:
    found: dict[str, list[list[Run]]] = defaultdict(list)
    for cell, runs in cells.items():
        found[f"n={cell.n} duplicates={cell.duplicates} kv={cell.kv}"].append(runs)
    return found
