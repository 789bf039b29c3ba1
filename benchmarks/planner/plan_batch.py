"""Whole jobs of agent programs: Halo against a good asynchronous client with prefix caching, on the real CPU vLLM.

    python -m benchmarks.planner.plan_batch [--workflows diamond,bridge] [--n 64] [--duplicates natural] [--kv tight]
        [--arms client,halo] [--rounds 5] [--answer-tokens 24] [--minutes 50] [--out FILE.json]
    python -m benchmarks.planner.plan_batch --merge FILE.json FILE.json ...

Every cell is a workflow, so many rows, a share of duplicates (0, natural, 50 %) and an engine with ample KV, or
tight KV: room for nine average calls of the workflow.
Arms, each given the same rows in a round and an engine whose prefix cache is empty:

- `client`: every program a coroutine, every stage as soon as its own inputs exist; its bounds (programs in progress,
  calls in the engine) are the best of several in a trial for the cell;
- `sorted`: the same, rows sorted by their inputs;
- `remember`: the same, and equal calls and tools are asked once (a dictionary);
- `by operator`: one stage over all rows, then the next; `by query`: one program at a time;
- `halo`: what `halo batch run` does, from rows to written results, every output committed to SQLite;
- `client again`: the noise.

All arms ask for answers of at most `--answer-tokens` tokens, over the same HTTP client, and run tools in the same kind
of processes. Halo keeps no results from job to job here.
The order of arms turns around each round. Speed-up is the client's seconds by the arm's in the same round; shown is the
median over the rounds. Needs `make engine`.
"""

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.arguments import some_of
from benchmarks.planner.plain_client import Bounds, Counts, PlainClient
from benchmarks.planner.plan_batch_cells import (
    DUPLICATES,
    KV,
    MODELS,
    WORKFLOWS,
    Cell,
    databases_for,
    kv_blocks,
    recipe,
    rows_of,
    workflow_of,
)
from benchmarks.planner.plan_batch_report import AGAIN, BASE, Run, figures, read_runs, table, write_runs
from executor.engines.local_recipe import free_port
from executor.engines.local_vllm import LocalVllm
from executor.engines.port import EngineSpec, Usage
from executor.engines.vllm_http import VllmHttp
from executor.tools import ToolRunner
from halo.batch.folder import ERRORS, RESULTS
from halo.batch.run import Batch, run_batch
from halo.event_loop import run_async
from halo.sdk.workflow import Workflow
from planner.interpret import StageFailed
from planner.ir.values import Json
from planner.table import Table
from workloads.rows.draw_rows import Row, RowsUnavailable

ARMS = (BASE, "sorted", "remember", "by operator", "by query", "halo", AGAIN)
#: All programs at once with so many calls, or so many programs with as many calls as the engine takes.
TRIED = tuple(Bounds(10_000, calls) for calls in (8, 16, 32, 64)) + tuple(Bounds(programs, 64) for programs in (8, 16))
TRIAL_ROWS = 32
SHOWN_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Result:
    """What an arm did: the result of each row (None where it failed), and the work it took."""

    results: list[Json]
    calls: int
    distinct_calls: int
    tools: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured. `bounds` are used for every cell instead of a trial."""

    cells: Sequence[Cell]
    arms: Sequence[str]
    rounds: int
    answer_tokens: int
    minutes: float
    engines: int
    bounds: Bounds | None
    seed: int


def main() -> None:
    arguments = _arguments()
    runs, skipped = read_runs(arguments.merge or ()), list[str]()
    settings = {"answer_tokens": arguments.answer_tokens, "engines": arguments.engines, "seed": arguments.seed}
    if not arguments.merge:
        bench = Bench(_plan(arguments), lambda: _save(arguments.out, settings, bench))
        run_async(bench.measure())
        runs, skipped = bench.runs, bench.skipped
    for line in (*table(runs), *(f"skipped: {what}" for what in skipped)):
        print(line)
    print(json.dumps(settings | {"figures": figures(runs)}))


class Bench:
    """One measuring: `runs` grow, and `saved` is called after each."""

    def __init__(self, plan: Plan, saved: Callable[[], None]) -> None:
        self.plan = plan
        self.runs: list[Run] = []
        self.skipped: list[str] = []
        self._saved = saved
        self._session = time.strftime("%Y-%m-%dT%H:%M:%S")
        self._begun = time.monotonic()
        self._bounds: dict[Cell, Bounds] = {}
        self._took: dict[tuple[Cell, str], float] = {}

    async def measure(self) -> None:
        """Every engine in turn, its share of the minutes each; there every round of all its cells."""
        by_engine: dict[int | None, list[Cell]] = {}
        for cell in self.plan.cells:
            by_engine.setdefault(kv_blocks(cell), []).append(cell)
        left = len(self.plan.cells)
        for cells in by_engine.values():
            used_s = time.monotonic() - self._begun
            share_s = (60 * self.plan.minutes - used_s) * len(cells) / left
            await self._measure_on_engine(cells, time.monotonic() + share_s)
            left -= len(cells)

    async def _measure_on_engine(self, cells: Sequence[Cell], until: float) -> None:
        cores = [None] if self.plan.engines == 1 else [str(core) for core in range(self.plan.engines)]
        engines = [LocalVllm(recipe(cells[0], free_port(), core)) for core in cores]
        try:
            await asyncio.gather(*(engine.start() for engine in engines))
            specs = [_spec(engine.spec) for engine in engines]
            for number in range(self.plan.rounds):
                for cell in cells:
                    with databases_for(cell.workflow):
                        await self._round(cell, number, specs, until)
        finally:
            await asyncio.gather(*(engine.stop() for engine in engines))

    async def _round(self, cell: Cell, number: int, specs: Sequence[EngineSpec], until: float) -> None:
        estimate_s = sum(self._took.get((cell, arm), 0.0) for arm in self.plan.arms)
        if time.monotonic() + estimate_s > until:
            self.skipped.append(f"{cell}, round {number + 1}: out of time")
            return
        workflow = workflow_of(cell.workflow, self.plan.answer_tokens)
        try:
            rows = rows_of(cell, self.plan.seed + number)
        except RowsUnavailable as error:
            self.skipped.append(f"{cell}, round {number + 1}: {error}")
            return
        if cell not in self._bounds:
            self._bounds[cell] = self.plan.bounds or await _best_bounds(cell, workflow, specs)
        arms = self.plan.arms if number % 2 == 0 else tuple(reversed(self.plan.arms))
        found = {arm: await self._arm(cell, number, arm, workflow, rows, specs) for arm in arms}
        base = found[self.plan.arms[0]][0].results
        for arm in self.plan.arms:
            result, run = found[arm]
            same = sum(one == other for one, other in zip(base, result.results, strict=True))
            self.runs.append(replace(run, same_rows=same))
        self._saved()

    async def _arm(
        self,
        cell: Cell,
        number: int,
        arm: str,
        workflow: Workflow[..., Any],
        rows: Sequence[Row],
        specs: Sequence[EngineSpec],
    ) -> tuple[Result, Run]:
        bounds = self._bounds[cell]
        await _forget_prefixes(specs)
        begun, before = time.perf_counter(), _cpu_s()
        result = await run_arm(arm, workflow, rows, specs, bounds)
        seconds, cpu_s = time.perf_counter() - begun, _cpu_s() - before
        self._took[cell, arm] = seconds
        usage = result.usage
        print(f"{cell} round {number + 1} {arm}: {seconds:.2f} s, {result.calls} calls", flush=True)
        return result, Run(
            cell=cell,
            session=self._session,
            round=number,
            arm=arm,
            bounds=f"{bounds.programs} programs, {bounds.calls} calls",
            seconds=seconds,
            cpu_s=cpu_s,
            calls=result.calls,
            distinct_calls=result.distinct_calls,
            tools=result.tools,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            failed_rows=sum(one is None for one in result.results),
            same_rows=0,
        )


async def run_arm(
    arm: str, workflow: Workflow[..., Any], rows: Sequence[Row], specs: Sequence[EngineSpec], bounds: Bounds
) -> Result:
    """Everything an arm needs is opened and closed in here: that is part of its time."""
    match arm:
        case "halo":
            return await _halo(workflow, rows, specs)
        case "sorted":
            order = sorted(range(len(rows)), key=lambda number: json.dumps(rows[number], sort_keys=True))
            result = await _client(workflow, [rows[number] for number in order], specs, bounds)
            back = {number: place for place, number in enumerate(order)}
            return replace(result, results=[result.results[back[number]] for number in range(len(rows))])
        case "by query":
            return await _client(workflow, rows, specs, replace(bounds, programs=1))
        case "by operator":
            return await _client(workflow, rows, specs, bounds, by_operator=True)
        case _:
            return await _client(workflow, rows, specs, bounds, remember=arm == "remember")


async def _client(
    workflow: Workflow[..., Any],
    rows: Sequence[Row],
    specs: Sequence[EngineSpec],
    bounds: Bounds,
    *,
    remember: bool = False,
    by_operator: bool = False,
) -> Result:
    engines, tools = [VllmHttp(spec) for spec in specs], ToolRunner(workflow.tools)
    given = Table.from_rows(rows, workflow.plan.inputs)
    client = PlainClient(engines, tools, bounds, remember=remember)
    run = client.run_by_operator if by_operator else client.run
    try:
        results = await run(workflow.plan, [given.row(number) for number in range(given.rows)])
    finally:
        await tools.close()
        await asyncio.gather(*(engine.close() for engine in engines))
    counts: Counts = client.counts
    for failure in [result for result in results if isinstance(result, StageFailed)][:SHOWN_FAILURES]:
        print(f"failed: {failure}"[:300])
    kept = [None if isinstance(result, StageFailed) else result for result in results]
    return Result(kept, counts.calls, len(set(counts.asked)), counts.tools, counts.usage)


async def _halo(workflow: Workflow[..., Any], rows: Sequence[Row], specs: Sequence[EngineSpec]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        summary = await run_batch(Batch(workflow, rows, out, specs))
        results: list[Json] = [None] * len(rows)
        for line in (out / RESULTS).read_text().splitlines():
            record = json.loads(line)
            results[record["row"]] = record["result"]
        for line in (out / ERRORS).read_text().splitlines()[:SHOWN_FAILURES]:
            print(f"failed: {line}"[:300])
    used: Mapping[str, int] = summary.usage
    usage = Usage(used["prompt_tokens"], used["output_tokens"], used["cached_tokens"])
    return Result(results, used["calls"], 0, used["tools"], usage)


async def _best_bounds(cell: Cell, workflow: Workflow[..., Any], specs: Sequence[EngineSpec]) -> Bounds:
    """The bounds with which the client was fastest, on fewer rows than the cell's."""
    rows = rows_of(replace(cell, n=min(cell.n, TRIAL_ROWS)), 12345)
    seconds = {}
    for bounds in (TRIED[-1], *TRIED):  # the first warms up and is measured again
        await _forget_prefixes(specs)
        begun = time.perf_counter()
        await _client(workflow, rows, specs, bounds)
        seconds[bounds] = time.perf_counter() - begun
    best = min(seconds, key=lambda bounds: seconds[bounds])
    tried = ", ".join(f"{bounds.programs}:{bounds.calls} {took:.1f} s" for bounds, took in seconds.items())
    print(f"{cell}: the client's best bounds are {best.programs}:{best.calls} (programs:calls; {tried})", flush=True)
    return best


async def _forget_prefixes(specs: Sequence[EngineSpec]) -> None:
    async with aiohttp.ClientSession() as session:
        for spec in specs:
            async with session.post(f"{spec.url}/reset_prefix_cache") as answer:
                assert answer.status == 200, await answer.text()


def _spec(engine: EngineSpec) -> EngineSpec:
    """The engine serves its one model under every name the workflows use."""
    return replace(engine, models=MODELS, served_names=dict.fromkeys(MODELS, engine.models[0]))


def _cpu_s() -> float:
    """Of this process and of the tool workers that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _save(out: Path | None, settings: Mapping[str, Json], bench: Bench) -> None:
    if out is not None:
        write_runs(out, settings, bench.runs, bench.skipped)


def _plan(arguments: argparse.Namespace) -> Plan:
    axes = product(arguments.kv, arguments.n, arguments.duplicates, arguments.workflows)
    cells = [Cell(workflow, int(n), duplicates, kv) for kv, n, duplicates, workflow in axes]
    chosen = arguments.bounds and Bounds(*map(int, arguments.bounds.split(":")))
    return Plan(
        cells=cells,
        arms=arguments.arms,
        rounds=arguments.rounds,
        answer_tokens=arguments.answer_tokens,
        minutes=arguments.minutes,
        engines=arguments.engines,
        bounds=chosen or None,
        seed=arguments.seed,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workflows", type=some_of(WORKFLOWS), default=WORKFLOWS)
    parser.add_argument("--n", type=lambda text: text.split(","), default=["64"], help="rows, as in 16,64")
    parser.add_argument("--duplicates", type=some_of(tuple(DUPLICATES)), default=["natural"])
    parser.add_argument("--kv", type=some_of(KV), default=["tight"])
    parser.add_argument("--arms", type=some_of(ARMS), default=[BASE, "halo", AGAIN], help=f"{BASE} is the base")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answer-tokens", type=int, default=24, help="where every free answer is cut, in all arms")
    parser.add_argument("--minutes", type=float, default=50.0, help="what does not fit is skipped, and said so")
    parser.add_argument("--engines", type=int, default=1, help="so many engines side by side, each bound to a core")
    parser.add_argument("--bounds", help="the client's PROGRAMS:CALLS, instead of a trial in every cell")
    parser.add_argument("--seed", type=int, default=1, help="of the rows; each round has another")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--merge", type=Path, nargs="+", help="only print the table of these files")
    arguments = parser.parse_args()
    if BASE not in arguments.arms:
        parser.error(f"--arms must name {BASE!r}: speed-ups are against it")
    return arguments


if __name__ == "__main__":
    main()
