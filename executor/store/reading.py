"""What is told of jobs: records, results, events, usage."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import select

from executor.commands import Status
from executor.store.database import Database
from executor.store.port import MADE, SAVED, JobRecord, JobStatus, JobUnknown, ResultRow, StoredEvent
from executor.store.records import PENDING, decode_failure, iso_time, job_record
from executor.store.tables import events, jobs, programs
from planner.ir.ids import JobId

_RESULTS_A_PAGE = 500


async def job(database: Database, job: JobId, tenant: str | None) -> JobRecord:
    async with database.reading() as connection:
        found = (await connection.execute(select(jobs).where(jobs.c.id == job))).one_or_none()
    if found is None or tenant not in (None, found.tenant):
        raise JobUnknown(f"There is no job {job}.")
    return job_record(found)


async def list_jobs(
    database: Database,
    tenant: str | None,
    status: JobStatus | None,
    workflow: str | None,
    before: JobId | None,
    limit: int,
) -> Sequence[JobRecord]:
    query = select(jobs).order_by(jobs.c.number.desc()).limit(limit)
    for column, wanted in ((jobs.c.tenant, tenant), (jobs.c.status, status), (jobs.c.workflow, workflow)):
        query = query if wanted is None else query.where(column == wanted)
    if before is not None:
        query = query.where(jobs.c.number < select(jobs.c.number).where(jobs.c.id == before).scalar_subquery())
    async with database.reading() as connection:
        return [job_record(row) for row in await connection.execute(query)]


async def results(database: Database, job_id: JobId, after_row: int) -> AsyncIterator[ResultRow]:
    record = await job(database, job_id, None)
    while after_row < record.rows - 1:
        page = await _results_page(database, job_id, after_row)
        for row in page:
            yield row
        after_row = page[-1].row


async def _results_page(database: Database, job_id: JobId, after_row: int) -> list[ResultRow]:
    columns = select(programs.c.row_index, programs.c.status, programs.c.result, programs.c.failure)
    query = columns.where(programs.c.job_id == job_id, programs.c.row_index > after_row)
    async with database.reading() as connection:
        page = (await connection.execute(query.order_by(programs.c.row_index).limit(_RESULTS_A_PAGE))).all()
    return [
        ResultRow(
            row.row_index,
            None if row.status == PENDING else Status(row.status),
            None if row.result is None else json.loads(row.result),
            decode_failure(row.failure),
        )
        for row in page
    ]


async def job_events(database: Database, job: JobId, after_seq: int, limit: int) -> Sequence[StoredEvent]:
    query = select(events).where(events.c.job_id == job, events.c.seq > after_seq).order_by(events.c.seq).limit(limit)
    async with database.reading() as connection:
        found = (await connection.execute(query)).all()
    return [
        StoredEvent(
            row.seq,
            job,
            row.row_index,
            row.kind,
            iso_time(row.at),
            None if row.detail is None else json.loads(row.detail),
        )
        for row in found
    ]


async def usage(database: Database, job: JobId) -> Mapping[str, int]:
    counted = [jobs.c[name] for name in (*MADE, *SAVED)]
    async with database.reading() as connection:
        found = (await connection.execute(select(*counted).where(jobs.c.id == job))).one_or_none()
    if found is None:
        raise JobUnknown(f"There is no job {job}.")
    return dict(found._mapping)
