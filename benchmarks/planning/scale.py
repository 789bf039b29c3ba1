"""What planning costs as a job grows: seconds and memory against rows, for a plan of ten stages.

    python -m benchmarks.planning.scale [--rows 1000,10000,...] [--out FILE.json]

Two jobs: `repeats`, in which about two rows in five ask what another row asks, and `distinct`, in which none does.
Seconds are the fastest of some runs, each size in a process of its own. Memory is what planning allocates at its peak,
as tracemalloc counts it (in a run of its own, for tracing slows); beside it the peak RSS of the process, rows and all.
A slope is the exponent of the growth from 10,000 rows on: 1 is linear.
"""

import argparse
import gc
import json
import math
import multiprocessing
import resource
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from planner.explain import explain
from planner.ir.expressions import Array, Column, Concat, Const, Expr, Field, Object, Output
from planner.ir.ids import StageId
from planner.ir.plan import Effect, Generate, Input, Join, Message, Plan, Sampling, Stage, Tool, ToolSpec
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table

TARGET_S = {10_000: 2.0, 100_000: 25.0}
EXPLAIN_TARGET_S = {10_000: 3.0}
LINEAR_FROM_ROWS = 10_000
DATABASES = 200
GREEDY, SAMPLED = Sampling(), Sampling(temperature=0.8)

Point = dict[str, Any]


def ten_stages() -> Plan:
    """Text-to-SQL: a schema, its links, four greedy stages on them, two samples, a run, a vote."""
    ask = (Const("You write SQL.\nSchema:\n"), output("schema"), Const("\nQuestion: "), Column("question"))
    stages: tuple[Stage, ...] = (
        Tool(StageId("schema"), ToolSpec("lookup", Effect.PURE), Object((Field("db", Column("db")),))),
        generate("link", *ask, Const("\nWhich tables?")),
        generate("hints", Const("Hints: "), Column("evidence")),
        generate("plan", *ask, output("link"), output("hints")),
        generate("draft", *ask, output("plan")),
        generate("review", *ask, output("draft")),
        generate("first", *ask, output("review"), sampling=SAMPLED),
        generate("second", *ask, output("review"), sampling=SAMPLED),
        Tool(StageId("run"), ToolSpec("run_sql"), Object((Field("sql", output("first")),))),
        Join(StageId("vote"), Array((output("run"), output("second")))),
    )
    return Plan("ten_stages", (Input("db"), Input("question"), Input("evidence")), stages, output("vote"))


def output(stage: str) -> Output:
    return Output(StageId(stage))


def generate(stage: str, *segments: Expr, sampling: Sampling = GREEDY) -> Generate:
    return Generate(StageId(stage), "model", (Message("user", Concat(segments)),), sampling)


def make_job(kind: str, rows: int) -> JobPart:
    """Questions of about 90 characters, rows of one database in no order."""
    random = np.random.default_rng(7)
    asked = random.permutation(rows) if kind == "distinct" else random.integers(0, rows, rows)
    cells = (
        {
            "db": f"database_{number % DATABASES}",
            "question": f"How many rows are there in table {number}, and what do the newest of them have in common?",
            "evidence": f"Table {number} counts in thousands.",
        }
        for number in asked.tolist()
    )
    plan = ten_stages()
    return JobPart(plan, Table.from_rows(cells, plan.inputs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,3000,10000,30000,100000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    sizes = [int(rows) for rows in asked.rows.split(",")]
    curves = {kind: [in_own_process(kind, rows, asked.runs) for rows in sizes] for kind in ("repeats", "distinct")}
    result = {"curves": curves, "slopes": {kind: slopes(curve) for kind, curve in curves.items()}}
    print_result(result)
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=2) + "\n")


def in_own_process(kind: str, rows: int, runs: int) -> Point:
    """A fresh process for each point: its peak RSS is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (kind, rows, runs))


def measure(kind: str, rows: int, runs: int) -> Point:
    job = make_job(kind, rows)
    rows_mb = rss_mb()
    planned = optimize([job])
    explain_s = min(timed(lambda: explain([job], planned)) for _ in range(runs))
    plan_s = min(timed(lambda: optimize([job])) for _ in range(runs))
    rss = rss_mb()
    return {
        "rows": rows,
        "plan_s": plan_s,
        "plan_target_s": TARGET_S.get(rows),
        "explain_s": explain_s,
        "explain_target_s": EXPLAIN_TARGET_S.get(rows),
        "planning_peak_mb": traced_mb(lambda: optimize([job])),
        "process_rss_mb": rss,
        "process_rss_before_planning_mb": rows_mb,
    }


def timed(work: Callable[[], object]) -> float:
    gc.collect()
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def traced_mb(work: Callable[[], object]) -> float:
    gc.collect()
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def slopes(curve: Sequence[Point]) -> dict[str, float | None]:
    """Least squares through the logarithms, from where fixed costs no longer show."""
    points = [point for point in curve if point["rows"] >= LINEAR_FROM_ROWS]
    return {name: _slope(points, name) for name in ("plan_s", "explain_s", "planning_peak_mb")}


def _slope(points: Sequence[Point], name: str) -> float | None:
    if len(points) < 2:
        return None
    rows = [math.log(point["rows"]) for point in points]
    return round(float(np.polyfit(rows, [math.log(point[name]) for point in points], 1)[0]), 3)


_COLUMNS = "{:>9} {:>8} {:>8} {:>10} {:>9} {:>10} {:>8}"


def print_result(result: dict[str, Any]) -> None:
    for kind, curve in result["curves"].items():
        print(f"{kind}: slopes {result['slopes'][kind]}")
        print(_COLUMNS.format("rows", "plan s", "target", "explain s", "peak MB", "bytes/row", "RSS MB"))
        for point in curve:
            print(_COLUMNS.format(*_cells(point)))


def _cells(point: Point) -> tuple[str, ...]:
    target_s, peak_mb, rows = point["plan_target_s"], point["planning_peak_mb"], point["rows"]
    return (
        f"{rows:,}",
        f"{point['plan_s']:.3f}",
        f"< {target_s:.0f}" if target_s else "",
        f"{point['explain_s']:.3f}",
        f"{peak_mb:.1f}",
        f"{peak_mb * 1e6 / rows:,.0f}",
        f"{point['process_rss_mb']:.0f}",
    )


if __name__ == "__main__":
    main()
