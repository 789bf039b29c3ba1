"""EXPLAIN ANALYZE of a stored job: the prediction made again from its plan and rows, beside what the store recorded."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from executor.beliefs import decode_beliefs, decode_corrections
from executor.engines.port import EngineSpec
from executor.store.failures import StoreRefused
from executor.store.jobs import DEFAULT_TENANT, JobDefinition, JobRecord
from executor.store.port import Store
from executor.store.sql import open_store
from halo.batch.errors import FolderRefused
from halo.batch.folder import DATABASE
from halo.priced_fleet import Fleet, open_to
from halo.prices import priced
from planner.analyse import analyse
from planner.analysis import Analysis
from planner.foretell import foretell
from planner.ir.codec import decode
from planner.ir.ids import JobId
from planner.ir.values import Json
from planner.job import JobPart
from planner.measured import CallSpan, Tally
from planner.table import Table
from planner.timing import PricedEngine

#: Where a job's metadata keep the engines it was accepted for, and what they cost then.
FLEET = "fleet"
_SQLITE = "sqlite:///"
_ENGINES = TypeAdapter(tuple[PricedEngine, ...])

RECOMPUTED = (
    "the prediction is made again from the stored plan and rows and from what was known of earlier jobs when this one"
    " began, as EXPLAIN makes it before a run; nothing that this job measured goes into it"
)
_NOT_COUNTED = "calls that failed are not counted; calls that are on an engine together divide its time"


def fleet_as_json(engines: Sequence[EngineSpec], prices: Mapping[str, float]) -> Json:
    """To be kept with a batch when it is accepted: of the engines those that it may use."""
    told: Json = _ENGINES.dump_python(priced(open_to(engines, DEFAULT_TENANT), prices), mode="json")
    return told


def fleet_of(record: JobRecord) -> Fleet | None:
    """The engines the job was accepted for, where they were kept."""
    kept = record.metadata.get(FLEET)
    return None if kept is None else Fleet(_ENGINES.validate_python(kept), "as when the job was accepted")


@dataclass(frozen=True, slots=True)
class Recorded:
    """All that a store knows of a job that an analysis needs."""

    record: JobRecord
    definition: JobDefinition
    tallies: Sequence[Tally]
    spans: Sequence[CallSpan]


async def record_of(store: Store, job: JobId, tenant: str | None = None) -> Recorded:
    """Of a job that runs or has ended. Raises `JobUnknown`."""
    record = await store.job(job, tenant)
    return Recorded(record, await store.definition(job), await store.tallies(job), await store.call_spans(job))


def analyse_recorded(recorded: Recorded, fleet: Fleet) -> Analysis:
    """`fleet` stands in where none was kept with the job."""
    record, plan = recorded.record, decode(recorded.definition.plan)
    predicted_for = fleet_of(record) or fleet
    part = JobPart(plan, Table.from_rows(recorded.definition.rows, plan.inputs))
    before = decode_beliefs(recorded.definition.beliefs)
    told = foretell([part], predicted_for.engines, predicted_for.origin, experience=before.experience)
    ended = record.rows - record.counts["pending"]
    after = decode_corrections(recorded.definition.learnt)
    found = analyse(told.explanation, told.job_plan, recorded.tallies, recorded.spans, ended, before.corrections, after)
    return replace(found, notes=tuple(_notes(record, found)))


async def analyze_job(store: Store, job: JobId, fleet: Fleet, tenant: str | None = None) -> Analysis:
    """Raises `JobUnknown`."""
    return await asyncio.to_thread(analyse_recorded, await record_of(store, job, tenant), fleet)


async def analyze_folder(folder: Path, fleet: Fleet) -> Analysis:
    """The batch in an output folder. Raises `FolderRefused` where there is none."""
    return await asyncio.to_thread(analyse_recorded, await recorded_in(folder), fleet)


async def recorded_in(folder: Path, job: JobId | None = None) -> Recorded:
    """Of the batch in an output folder. Raises `FolderRefused` where there is none."""
    require_batch(folder)
    store = await open_store(f"{_SQLITE}{folder / DATABASE}")
    try:
        records = await store.jobs(limit=1)
        if not records:
            raise FolderRefused(f"{folder} holds a batch that was never accepted: run it again")
        return await record_of(store, job or records[0].id)
    finally:
        await store.close()


def require_batch(folder: Path) -> None:
    if not (folder / DATABASE).is_file():
        raise FolderRefused(f"{folder} holds no batch: name the folder that was given to halo batch run as --out")


async def analyze_stored(database_url: str, job: str, fleet: Fleet) -> Analysis:
    """A job of a database. Raises `JobUnknown`, `StoreRefused` or `StoreUnavailable`."""
    return await asyncio.to_thread(analyse_recorded, await recorded_in_database(database_url, job), fleet)


async def recorded_in_database(database_url: str, job: str) -> Recorded:
    """Raises `JobUnknown`, `StoreRefused` or `StoreUnavailable`."""
    require_file(database_url)
    store = await open_store(database_url)
    try:
        return await record_of(store, JobId(job))
    finally:
        await store.close()


def require_file(database_url: str, fix: str = "name it with --database, or set HALO_DATABASE_URL") -> None:
    """Opening a SQLite file that is not there would make it."""
    file = Path(database_url.removeprefix(_SQLITE))
    if database_url.startswith(_SQLITE) and not file.is_file():
        raise StoreRefused(f"There is no database {file}: {fix}.")


def _notes(record: JobRecord, found: Analysis) -> Iterator[str]:
    yield RECOMPUTED
    yield _NOT_COUNTED
    if not record.status.ended:
        yield f"the job is {record.status}: figures are of what has finished"
    if found.calls and not found.engines:
        yield "no times were recorded: the job ran before Halo kept them"
