"""Jobs run from Python, in this process: what `workflow.map(rows).run()` calls. Needs no server and no database."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from heapq import merge
from pathlib import Path
from typing import Any, Literal, TypeVar

from executor.core.limits import Limits
from executor.engines.port import EngineSpec
from executor.slo import SloClass
from executor.store.jobs import DEFAULT_TENANT, NewJob
from halo.analysis import FLEET, Recorded, analyse_recorded, fleet_as_json, record_of, recorded_in
from halo.batch.cache_file import users_cache
from halo.batch.engines import any_named, named_engines
from halo.batch.errors import JobFailed, RowFailed
from halo.batch.fitness import check_models
from halo.batch.folder import ERRORS, RESULTS
from halo.batch.intake import RowError, Rows, take_in
from halo.batch.outcome import RowResult, outcomes
from halo.batch.run import LEASE_S, OWNER, Batch, TableRows, run_batch
from halo.deadline import Deadline, deadline_of
from halo.event_loop import run_async
from halo.priced_fleet import Fleet, fleet_for, open_to, unforeseeable
from halo.prices import read_prices
from halo.sdk.errors import RunFailed
from halo.sdk.workflow import Workflow
from halo.tokens import count_prompts, foretell_counted
from halo.wiring import open_runtime
from planner.analysis import Analysis
from planner.explanation import Explanation
from planner.ir.codec import encode
from planner.ir.ids import JobId
from planner.ir.needs import models_of
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table

T = TypeVar("T")
Engines = str | Path | EngineSpec | Sequence[str | EngineSpec] | None


def run_job(
    workflow: Workflow[..., Any],
    rows: Rows,
    *,
    engines: Engines = None,
    out: str | Path | None = None,
    resume: bool = False,
    limit: int | None = None,
    max_active: int | None = None,
    errors: Literal["raise", "return"] = "raise",
    cache: bool = True,
    on_recorded: Callable[[Recorded], None] = lambda recorded: None,
    deadline_s: float | None = None,
    slo: str = SloClass.BATCH,
) -> list[Any]:
    """Run every row, and give the results in the order of the rows, each as the workflow's return type says.

    `engines` are URLs of OpenAI-compatible servers, `EngineSpec`s, or the path of a fleet file; without them,
    HALO_FLEET or HALO_ENGINE_URL is asked. With `out`, the job is kept in that folder as `halo batch run` does it: with
    `resume` it goes on there after a crash, and with `cache` what earlier such jobs gave for the same work is used
    again. `max_active` bounds the rows in progress at once. Rows should be done within `deadline_s` seconds; how urgent
    that is says `slo`: interactive, standard, batch or background.

    A row that fails stops no other. With `errors="raise"`, `JobFailed` is raised when all rows have ended; it has the
    `errors`, and the `results` of the others. With `errors="return"`, a `RowFailed` stands where the result would.
    Raises `BatchError` for what is wrong with the rows, the folder or the engines as a whole. `on_recorded` gets what
    `analyze_run` needs when all rows have ended.
    """
    specs = _specs(workflow, engines)
    limits = Limits() if max_active is None else Limits(active_programs=max_active)
    if out is None:
        work = run_in_memory(
            workflow,
            rows,
            specs,
            limits=limits,
            limit=limit,
            on_recorded=on_recorded,
            deadline_s=deadline_s,
            slo=SloClass(slo),
        )
    else:
        results = users_cache(os.environ) if cache else None
        batch = Batch(workflow, rows, Path(out), specs, resume, limit, limits, cache=results)
        work = _run_in_folder(replace(batch, deadline_s=deadline_s, slo=SloClass(slo)), on_recorded)
    found = [_typed(workflow, answer) for answer in _finish(work)]
    if errors == "raise" and any(isinstance(result, RowFailed) for result in found):
        raise JobFailed(found)
    return found


async def run_in_memory(
    workflow: Workflow[..., Any],
    rows: Rows,
    engines: Sequence[EngineSpec],
    *,
    limits: Limits | None = None,
    limit: int | None = None,
    on_recorded: Callable[[Recorded], None] = lambda recorded: None,
    deadline_s: float | None = None,
    slo: SloClass = SloClass.STANDARD,
    on_deadline: Callable[[Deadline], None] = lambda deadline: None,
) -> list[RowResult | RowError]:
    """How each row ended, in order. Nothing is kept when this process ends. `on_deadline` is told what became of the
    deadline, where there is one. Raises `BatchError`."""
    plan = workflow.plan
    table, intake = take_in(rows, plan.inputs, limit)
    async with open_runtime(engines, workflow.tools, limits=limits) as runtime:
        await check_models(plan, runtime.engines)
        fleet = {FLEET: fleet_as_json(engines, read_prices(os.environ))}
        job = NewJob(JobId("local"), workflow.name, encode(plan), TableRows(table), metadata=fleet)
        await runtime.store.create_job(replace(job, slo=slo, deadline_s=deadline_s))
        claim = await runtime.store.claim(OWNER, LEASE_S, job.id)
        assert claim is not None, "nobody else knows the job"
        await runtime.driver.run(claim)
        on_recorded(await record_of(runtime.store, job.id))
        if (deadline := await deadline_of(runtime.store, job.id)) is not None:
            on_deadline(deadline)
        return [outcome async for outcome in outcomes(runtime.store.results(job.id), intake)]


def explain_rows(
    workflow: Workflow[..., Any], rows: Rows, *, engines: Engines = None
) -> tuple[Explanation, Sequence[str]]:
    """What the rows would ask for, on the engines that `run_job` would use; without any, on the reference. And what
    was odd about the rows. Prompts are counted in the tokens of engines that tell.

    Raises `BatchError` for what is wrong with the rows or the engines as a whole, `RowsInvalid` for single rows.
    """
    plan = workflow.plan
    table = take_in(rows, plan.inputs)[0] if isinstance(rows, Path) else Table.from_rows(rows, plan.inputs)
    named = engines is not None or any_named((), (), None, os.environ)
    specs = _specs(workflow, engines) if named else ()
    fleet, usable = fleet_for(DEFAULT_TENANT, specs, read_prices(os.environ)), open_to(specs, DEFAULT_TENANT)
    unserved = unforeseeable(tuple(models_of(plan)), specs, DEFAULT_TENANT)
    part = JobPart(plan, table)
    job_plan = optimize([part])
    counted = _finish(count_prompts([part], job_plan, usable))
    told = foretell_counted(part, job_plan, fleet, counted)
    return told.explanation, (*unserved, *table.notes, *([counted.problem] if counted.problem else []))


def analyze_run(recorded: Recorded) -> Analysis:
    """What was predicted of a job that was run, and what became of it."""
    return analyse_recorded(recorded, Fleet(()))


async def _run_in_folder(batch: Batch, on_recorded: Callable[[Recorded], None]) -> list[RowResult | RowError]:
    summary = await run_batch(batch)
    on_recorded(await recorded_in(batch.out, JobId(summary.job)))
    results: Iterator[RowResult | RowError] = (RowResult(**line) for line in _lines(batch.out / RESULTS))
    errors: Iterator[RowResult | RowError] = (RowError(**line) for line in _lines(batch.out / ERRORS))
    return list(merge(results, errors, key=lambda outcome: outcome.row))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _specs(workflow: Workflow[..., Any], engines: Engines) -> tuple[EngineSpec, ...]:
    if engines is None:
        return named_engines(environment=os.environ) if models_of(workflow.plan) else ()
    if isinstance(engines, Path) or (isinstance(engines, str) and engines.endswith(".toml")):
        return named_engines(fleet=Path(engines))
    several = [engines] if isinstance(engines, str | EngineSpec) else engines
    urls = [engine for engine in several if isinstance(engine, str)]
    given = [engine for engine in several if isinstance(engine, EngineSpec)]
    return (*(named_engines(urls) if urls else ()), *given)


def _typed(workflow: Workflow[..., Any], outcome: RowResult | RowError) -> Any:
    if isinstance(outcome, RowError):
        return RowFailed(outcome.row, outcome.code, outcome.message)
    try:
        return workflow.read_result(outcome.result)
    except RunFailed as error:
        return RowFailed(outcome.row, error.code, error.message)


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """In a thread of its own where this one already runs a loop: a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_async(work)
    with ThreadPoolExecutor(1, thread_name_prefix="halo-job") as thread:
        return thread.submit(run_async, work).result()
