"""Halo's rule against HexGen-Text2SQL's and plainer ones, on Text-to-SQL requests with deadlines and unlike engines.

Simulated: the product's core with modelled engines in virtual time; only ratios mean anything. Nothing is cached of
results, and equal work is done as often as it is asked for. Deadlines are twice the base for all.

    python -m benchmarks.scheduling.hexgen
    python -m benchmarks.scheduling.hexgen --full --goodput --out hexgen.json
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arguments import some_of
from benchmarks.scheduling.arms import ALPHAS, FEW_ALPHAS, HALO, ORACLE, ROUND_ROBIN, Arm, arms_for
from benchmarks.scheduling.experiment import Cell, Run, Wanted, run_all
from benchmarks.scheduling.fleets import CALIBRATIONS, FLEETS
from benchmarks.scheduling.goodput import Goodput, goodput_bound, goodput_of
from benchmarks.scheduling.report import (
    BURST,
    STEADY,
    goals_table,
    goodput_table,
    judged,
    table,
    write_report,
)
from benchmarks.scheduling.reuse import Reuse
from benchmarks.scheduling.traces import traces_in
from executor.policy.rules import RULES

ROOT = Path(__file__).resolve().parents[2]
#: Where recorded requests are looked for; without them, those of our own are all there is.
DATA = ROOT.parent / "shared" / "data" / "hexgen_text2sql"
#: Traces that come as a burst; the others come steadily.
_BURSTS = ("trace1", "trace2", "trace3", "own revised")
_BURST_RATES, _STEADY_RATES = (4.0, 8.0), (0.3, 0.5, 0.7, STEADY, 1.0, 1.2, 1.5)
_BURST_REQUESTS, _STEADY_REQUESTS = 96, 400


@dataclass(frozen=True, slots=True)
class Scope:
    """What is measured. Without `rates`, bursts come at theirs and the others at theirs."""

    traces: list[str]
    fleets: list[str]
    calibrations: list[str]
    reuse: list[Reuse]
    rates: list[float]
    rules: list[str]
    alphas: Sequence[float]
    seeds: int
    requests: int

    @property
    def cells(self) -> list[Cell]:
        return [
            Cell(fleet, calibration, trace, reuse, load, self._requests(load))
            for fleet in self.fleets
            for calibration in self.calibrations
            for trace in self.traces
            for reuse in self.reuse
            for load in self.rates or (_BURST_RATES if trace in _BURSTS else _STEADY_RATES)
        ]

    def _requests(self, load: float) -> int:
        return self.requests or (_BURST_REQUESTS if load >= BURST else _STEADY_REQUESTS)


def main() -> int:
    arguments = _parser().parse_args()
    data: Path = arguments.data
    scope = _scope(arguments)
    strangers = [trace for trace in scope.traces if trace not in traces_in(data)]
    if strangers:
        print(f"{strangers[0]!r} is none of {', '.join(traces_in(data))}; --data says where recorded ones are")
        return 2
    runs = _run_cells(scope, data, arguments.processes)
    goals = judged(runs)
    print("simulated, virtual time", *table(runs), *goals_table(goals), sep="\n", flush=True)
    goodputs = _goodputs(scope, data, arguments.processes) if arguments.goodput else []
    print(*goodput_table(goodputs), sep="\n")
    if arguments.out:
        settings = {name: str(value) for name, value in vars(arguments).items()}
        write_report(arguments.out, settings, runs, goals, goodputs)
    return 0


def _run_cells(scope: Scope, data: Path | None, processes: int) -> list[Run]:
    wanted = [
        Wanted(cell, seed, arm, data)
        for cell in scope.cells
        for arm in arms_for(scope.rules, scope.alphas, cell.reuse)
        for seed in range(scope.seeds)
    ]
    runs = []
    for number, run in enumerate(run_all(wanted, processes), start=1):
        runs.append(run)
        if number % 20 == 0:
            print(f"{number} of {len(wanted)} runs", file=sys.stderr, flush=True)
    return runs


def _goodputs(scope: Scope, data: Path | None, processes: int) -> list[Goodput]:
    """Of the steady traces, for Halo's rule, round robin, HexGen's and the oracle, and what no rule exceeds."""
    rules = [rule for rule in scope.rules if rule in (ROUND_ROBIN, HALO, ORACLE) or rule.startswith("hexgen")]

    def run(wanted: Sequence[Wanted]) -> list[Run]:
        return list(run_all(wanted, processes))

    steady = [
        Cell(fleet, calibration, trace, reuse, STEADY, scope.requests or _STEADY_REQUESTS)
        for fleet in scope.fleets
        for calibration in scope.calibrations
        for trace in scope.traces
        for reuse in scope.reuse
        if trace not in _BURSTS
    ]
    arms: list[tuple[Cell, Arm]] = [
        (cell, arm) for cell in steady for arm in arms_for(rules, scope.alphas, cell.reuse) if arm.shares
    ]
    found = [goodput_of(cell, arm, range(scope.seeds), data, run) for cell, arm in arms]
    return found + [goodput_bound(cell, range(scope.seeds), data) for cell in steady]


def _scope(arguments: argparse.Namespace) -> Scope:
    """What was asked for; what was not is little, or all with `--full`."""
    full, known = arguments.full, list(traces_in(arguments.data))
    recorded = "trace3" in known
    few = ["trace3", "natural"] if recorded else ["own revised", "own natural"]
    return Scope(
        traces=arguments.traces or (known if full else few),
        fleets=arguments.fleets or (list(FLEETS) if full else ["hetero-1"]),
        calibrations=arguments.calibrations or (list(CALIBRATIONS) if full else [CALIBRATIONS[0]]),
        reuse=[Reuse(name) for name in arguments.reuse or (list(Reuse) if full else [Reuse.NONE, Reuse.REQUEST])],
        rates=arguments.rates or ([] if full else [STEADY, _BURST_RATES[0]]),
        rules=arguments.rules or list(RULES),
        alphas=ALPHAS if full else tuple(arguments.alphas or FEW_ALPHAS),
        seeds=arguments.seeds or (5 if full else 2),
        requests=arguments.requests or (0 if full else 96),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="a folder with requests.jsonl, the recorded requests")
    parser.add_argument("--traces", type=lambda text: text.split(","), help="names with commas between them")
    parser.add_argument("--fleets", type=some_of(list(FLEETS)))
    parser.add_argument("--calibrations", type=some_of(list(CALIBRATIONS)))
    parser.add_argument("--reuse", type=some_of([reuse.value for reuse in Reuse]))
    parser.add_argument("--rates", type=float, nargs="+", help="multiples of what the fleet keeps up with")
    parser.add_argument("--rules", type=some_of(list(RULES)))
    parser.add_argument("--alphas", type=float, nargs="+", help="of HexGen's rules")
    parser.add_argument("--requests", type=int, help="in each run")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--goodput", action="store_true", help="also find the highest rate that is kept up with")
    parser.add_argument("--full", action="store_true", help="everything: hours")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
