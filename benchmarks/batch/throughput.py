"""What orchestration costs: calls a second with durable results, and CPU a call, on an engine that answers at once.

    python -m benchmarks.batch.throughput [--calls 20000] [--rounds 3] [--case NAME] [--decisions 256] [--out FILE.json]

Each case runs as `halo batch run` does, in a process of its own: rows from a file, every node and result committed to
SQLite (write-ahead log, synchronous=FULL), files written at the end. `calls/s` counts the seconds in which the job ran,
without reading rows and writing files; `all s` is everything. CPU is user and system time of the whole process by
finished call. Shown is the median round. The target stands for the case `chain`.
"""

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import os
import pstats
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.batch import workflows
from executor.engines.port import EngineSpec
from halo.batch.run import Batch, Running, run_batch
from halo.event_loop import run_process
from halo.sdk.workflow import Workflow
from halo.wiring import CacheChoice
from planner.ir.ids import EngineId

TARGET_CALLS_PER_S = 1500.0
TARGET_CASE = "chain"
ENGINE = EngineSpec(
    EngineId("scripted"),
    "scripted",
    (workflows.MODEL,),
    max_running=256,
    revision="none",
    options={"answers": "benchmarks.batch.workflows:answer"},
)

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """`asked` rows share each question; `calls_a_row` are those of the workflow as written. `keeps` results for later
    jobs: it looks up what was done before, finds nothing, and writes down what it does."""

    name: str
    workflow: Workflow[..., Any]
    calls_a_row: int
    asked: int = 1
    keeps: bool = False


CASES = (
    Case("one_call", workflows.one_call, 1),
    Case("chain", workflows.chain, 4),
    Case("wide", workflows.wide, 4),
    Case("repeats", workflows.chain, 4, asked=5),
    Case("chain, kept", workflows.chain, 4, keeps=True),
)


def main() -> None:
    arguments = _arguments()
    points = [_rounds(case, arguments) for case in CASES if arguments.case in (None, case.name)]
    print(_table(points))
    met = all(point["calls_per_s"] >= TARGET_CALLS_PER_S for point in points if point["case"] == TARGET_CASE)
    print(f"target: {TARGET_CASE} at {TARGET_CALLS_PER_S:,.0f} calls/s: {'met' if met else 'MISSED'}")
    print(json.dumps({"cores": os.cpu_count(), "rounds": arguments.rounds, "cases": points}))
    if arguments.out:
        arguments.out.write_text(json.dumps(points, indent=2))
    if arguments.profile:
        _profile(arguments.calls)
    raise SystemExit(0 if met else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, help="calls in each case, as written")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=[case.name for case in CASES], help="only this one")
    parser.add_argument("--decisions", type=int, default=256, help="of how many rows decisions are kept, for halo why")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--profile", action="store_true", help="also print where the time goes in the target's case")
    return parser.parse_args()


def _rounds(case: Case, arguments: argparse.Namespace) -> Point:
    return _median([_apart(case, arguments.calls, arguments.decisions) for _ in range(arguments.rounds)])


def _apart(case: Case, calls: int, decisions: int) -> Point:
    """In a fresh process, so that cases do not warm each other up."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(run_case, (case.name, calls, decisions))


def run_case(name: str, calls: int, decisions: int = 256) -> Point:
    case = next(case for case in CASES if case.name == name)
    rows = calls // case.calls_a_row
    with tempfile.TemporaryDirectory() as folder:
        batch = replace(_batch(case, rows, Path(folder)), decisions=decisions)
        ran: list[float] = []
        began, before = time.perf_counter(), _cpu_s()
        summary = run_process(run_batch(batch, watch=_timed(ran)))
        cpu_s, all_s = _cpu_s() - before, time.perf_counter() - began
    assert summary.succeeded == rows, summary
    made, saved = summary.usage["calls"], summary.usage["saved_calls"]
    return {
        "case": name,
        "rows": rows,
        "calls": made,
        "saved": saved,
        "calls_per_s": made / ran[0],
        "rows_per_s": rows / ran[0],
        "job_s": ran[0],
        "all_s": all_s,
        "cpu_ms_per_call": 1000 * cpu_s / made,
        "cores_used": cpu_s / all_s,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _batch(case: Case, rows: int, folder: Path) -> Batch:
    path = folder / "rows.jsonl"
    questions = (f"How many orders were placed in week {number // case.asked} of the year?" for number in range(rows))
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    cache = CacheChoice(f"sqlite:///{folder / 'results.db'}") if case.keeps else None
    return Batch(case.workflow, path, folder / "out", (ENGINE,), cache=cache)


def _timed(ran: list[float]) -> Callable[[Running], Any]:
    """A watcher that notes how long there was something to watch."""

    async def watch(_: Running) -> None:
        began = time.perf_counter()
        try:
            await asyncio.Event().wait()
        finally:
            ran.append(time.perf_counter() - began)

    return watch


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _median(points: list[Point]) -> Point:
    middle = statistics.median_low([point["calls_per_s"] for point in points])
    return next(point for point in points if point["calls_per_s"] == middle)


_COLUMNS = {
    "case": "",
    "rows": ",",
    "calls": ",",
    "saved": ",",
    "calls_per_s": ",.0f",
    "cpu_ms_per_call": ".3f",
    "cores_used": ".2f",
    "job_s": ".1f",
    "all_s": ".1f",
    "peak_rss_mib": ".0f",
}


def _table(points: list[Point]) -> str:
    lines = [[name.replace("_per_", "/").replace("_", " ") for name in _COLUMNS]]
    lines += [[format(point[name], form) for name, form in _COLUMNS.items()] for point in points]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _profile(calls: int) -> None:
    profile = cProfile.Profile()
    profile.runcall(run_case, TARGET_CASE, calls)
    pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
