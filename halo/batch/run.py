"""Run a workflow over a file of rows: read, accept, run, write down. Whatever stops it, it can be gone on with."""

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import structlog

from executor.core.limits import Limits
from executor.drivers.reasons import MOST_PROGRAMS
from executor.engines.port import EngineSpec
from executor.policy.rules import HALO
from executor.slo import SloClass
from executor.store.jobs import Claim, JobRecord, NewJob
from executor.store.port import Store
from halo.analysis import FLEET, analyze_job, fleet_as_json
from halo.batch.errors import BatchStopped, FolderRefused
from halo.batch.fitness import check_models
from halo.batch.folder import ANALYSIS, SUMMARY, Folder
from halo.batch.intake import Intake, Rows, rows_digest, take_in
from halo.batch.outcome import write_outcomes
from halo.batch.summary import Summary, Timing, summarise
from halo.deadline import deadline_of
from halo.priced_fleet import Fleet
from halo.prices import read_prices
from halo.sdk.workflow import Workflow
from halo.wiring import CacheChoice, Runtime, open_runtime
from planner.analysis import Analysis
from planner.ir.codec import encode
from planner.ir.ids import JobId
from planner.ir.values import Json, canonical_json
from planner.table import Table

log = structlog.get_logger(__name__)

#: The folder's lock keeps others out, so the lease is a form: whoever holds the folder may claim its job again.
OWNER = "batch"
LEASE_S = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be run. `limit` takes only so many rows of the file; `journal` gets every event of the scheduler.

    With `analyze`, what was predicted and what became of it is written beside the summary. `cache` is where results are
    kept for later batches, and taken from; None is nowhere. Every row should be done `deadline_s` seconds after the
    batch was accepted; `slo` is how urgent that is. Of so many rows the scheduler's `decisions` are kept. Calls get
    engines by the `rule` of that name.
    """

    workflow: Workflow[..., Any]
    rows: Rows
    out: Path
    engines: Sequence[EngineSpec]
    resume: bool = False
    limit: int | None = None
    limits: Limits | None = None
    journal: Path | None = None
    analyze: bool = False
    cache: CacheChoice | None = None
    deadline_s: float | None = None
    slo: SloClass = SloClass.BATCH
    decisions: int = MOST_PROGRAMS
    rule: str = HALO.name


@dataclass(frozen=True, slots=True)
class Running:
    """A batch that runs: what there is to look at meanwhile."""

    job: JobId
    intake: Intake
    runtime: Runtime


Watch = Callable[[Running], Awaitable[None]]


async def nobody_watches(_: Running) -> None:
    """For who wants only the summary."""


async def run_batch(batch: Batch, *, stop: asyncio.Event | None = None, watch: Watch = nobody_watches) -> Summary:
    """Run the batch to its end and write its files. `watch` runs beside it and is cancelled when all rows have ended.

    Raises `BatchStopped` soon after `stop` is set, and other `BatchError`s for what the user can mend. `results.jsonl`
    and `errors.jsonl` of a batch that was stopped or killed and gone on with are those of one that never was.
    """
    folder = Folder.open(batch.out, resume=batch.resume)
    run = _Run(batch, folder, stop or asyncio.Event(), watch)
    try:
        return await run.to_the_end()
    finally:
        folder.close() if run.accepted or batch.resume else folder.abandon()


class _Run:
    """One process's part in a batch."""

    def __init__(self, batch: Batch, folder: Folder, stop: asyncio.Event, watch: Watch) -> None:
        self._batch, self._folder, self._stop, self._watch = batch, folder, stop, watch
        self._began = time.monotonic()
        self.accepted = False

    async def to_the_end(self) -> Summary:
        batch = self._batch
        table, intake = await asyncio.to_thread(take_in, batch.rows, batch.workflow.plan.inputs, batch.limit)
        identity = await asyncio.to_thread(_identity, batch)
        fleet = fleet_as_json(batch.engines, read_prices(os.environ))
        async with open_runtime(
            batch.engines,
            batch.workflow.tools,
            database_url=self._folder.database_url,
            limits=batch.limits,
            journal=batch.journal,
            cache=batch.cache,
            decisions=batch.decisions,
            rule=batch.rule,
        ) as runtime:
            record = await _known_job(runtime.store, batch, identity)
            await check_models(batch.workflow.plan, runtime.engines)
            self._check_stop()
            if record is None:
                record = await runtime.store.create_job(_new_job(batch, identity, table, fleet))
            self.accepted = True
            del table  # the store gives the rows again
            await self._run_job(Running(record.id, intake, runtime))
            return await self._write_down(runtime, record, intake)

    async def _run_job(self, running: Running) -> None:
        claim = await running.runtime.store.claim(OWNER, LEASE_S, running.job)
        if claim is None:  # it has ended, and only its files were not all written
            return
        watching = asyncio.create_task(self._see(running))
        try:
            await self._drive(running.runtime, claim)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _see(self, running: Running) -> None:
        await self._watch(running)

    async def _drive(self, runtime: Runtime, claim: Claim) -> None:
        """Returns when the job has ended; raises `BatchStopped` when it is told to stop before."""
        job, stopped = asyncio.create_task(runtime.driver.run(claim)), asyncio.create_task(self._stop.wait())
        await asyncio.wait({job, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if job.done():
            await job
            return
        job.cancel()
        self._check_stop()

    async def _write_down(self, runtime: Runtime, before: JobRecord, intake: Intake) -> Summary:
        tally = await write_outcomes(self._folder, runtime.store.results(before.id), intake)
        ended_before = before.rows - before.counts["pending"]
        summary = summarise(
            before,
            intake.rows,
            tally,
            await runtime.store.usage(before.id),
            [engine.spec.id for engine in runtime.engines],
            Timing(time.monotonic() - self._began, before.rows - ended_before),
            await deadline_of(runtime.store, before.id),
        )
        with self._folder.writing(SUMMARY) as file:
            file.add_page(summary.as_json())
        if not self._batch.analyze:
            return summary
        return replace(summary, analysis=await self._write_analysis(runtime, before.id))

    async def _write_analysis(self, runtime: Runtime, job: JobId) -> Analysis:
        analysis = await analyze_job(runtime.store, job, Fleet(()))
        with self._folder.writing(ANALYSIS) as file:
            file.add_page(analysis.to_json())
        return analysis

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise BatchStopped(self._batch.out)


def _identity(batch: Batch) -> dict[str, Json]:
    """What makes it this batch and no other."""
    return {
        "rows_file": batch.rows.name if isinstance(batch.rows, Path) else None,
        "rows_sha256": rows_digest(batch.rows),
        "plan_sha256": hashlib.sha256(encode(batch.workflow.plan).encode()).hexdigest(),
        "limit": batch.limit,
        _TOOLS: {name: tool.source_digest for name, tool in sorted(batch.workflow.tools.items())},
    }


async def _known_job(store: Store, batch: Batch, identity: Mapping[str, Json]) -> JobRecord | None:
    """The job in the folder. Raises `FolderRefused` when it is another than the one asked for."""
    known = await store.jobs(limit=1)
    if not known:
        return None
    before = known[0].metadata
    changed = [what for key, what in _CHANGES.items() if before.get(key) != identity[key]]
    if changed := changed or _changed_tools(before.get(_TOOLS) or {}, identity[_TOOLS]):
        fix = "give it what it began with, or start anew in another folder"
        raise FolderRefused(f"the batch in {batch.out} cannot be gone on with: {' and '.join(changed)}; {fix}")
    return known[0]


#: Batches of earlier versions told their tools' sources in another way, under another name.
_TOOLS = "tool_sources"
_CHANGES = {
    "rows_sha256": "the rows have changed",
    "plan_sha256": "the workflow has changed",
    "limit": "it began with another limit",
}


def _changed_tools(before: Mapping[str, Json], now: Mapping[str, Json]) -> list[str]:
    """Of those that can be told, then and now."""
    known = [name for name, source in before.items() if source is not None and now.get(name) is not None]
    if untold := sorted(set(now) - set(known)):
        log.warning("whether these tools have changed cannot be told: give them a version", tools=untold)
    return [f"the tool {name!r} has changed" for name in known if before[name] != now[name]]


def _new_job(batch: Batch, identity: Mapping[str, Json], table: Table, fleet: Json) -> NewJob:
    """Its id comes from what it is, so that the same batch makes the same calls wherever it runs."""
    named = {key: identity[key] for key in _CHANGES}
    digest = hashlib.blake2b(canonical_json(named).encode(), digest_size=8).hexdigest()
    return NewJob(
        id=JobId(f"batch-{digest}"),
        workflow=batch.workflow.name,
        plan=encode(batch.workflow.plan),
        rows=TableRows(table),
        request_hash=digest,
        metadata={**identity, FLEET: fleet},
        slo=batch.slo,
        deadline_s=batch.deadline_s,
    )


class TableRows(Sequence[Mapping[str, Json]]):
    """The rows of a table, each made when it is asked for: 100,000 need not stand in memory twice."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.rows

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Json]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Json]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, Json] | Sequence[Mapping[str, Json]]:
        if isinstance(index, slice):
            return [self._table.row(place) for place in range(*index.indices(len(self)))]
        return self._table.row(range(len(self))[index])
