"""What is told of jobs: records, results, events, usage."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from executor.commands import Status
from executor.store.port import MADE, SAVED, JobRecord, JobStatus, JobUnknown, ResultRow, StoredEvent
from executor.store.records import PENDING, decode_failure, iso_time, job_record
from executor.store.tables import events, jobs, programs
from planner.ir.ids import JobId

_RESULTS_A_PAGE = 500


def job(connection: Connection, job: JobId, tenant: str | None) -> JobRecord:
    found = connection.execute(select(jobs).where(jobs.c.id == job)).one_or_none()
    if found is None or tenant not in (None, found.tenant):
        raise JobUnknown(f"There is no job {job}.")
    return job_record(found)


def list_jobs(
    connection: Connection,
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
    return [job_record(row) for row in connection.execute(query)]


def results_page(connection: Connection, job: JobId, after_row: int) -> list[ResultRow]:
    columns = select(programs.c.row_index, programs.c.status, programs.c.result, programs.c.failure)
    query = columns.where(programs.c.job_id == job, programs.c.row_index > after_row)
    page = connection.execute(query.order_by(programs.c.row_index).limit(_RESULTS_A_PAGE)).all()
    return [
        ResultRow(
            row.row_index,
            None if row.status == PENDING else Status(row.status),
            None if row.result is None else json.loads(row.result),
            decode_failure(row.failure),
        )
        for row in page
    ]


def job_events(connection: Connection, job: JobId, after_seq: int, limit: int) -> Sequence[StoredEvent]:
    query = select(events).where(events.c.job_id == job, events.c.seq > after_seq).order_by(events.c.seq).limit(limit)
    found = connection.execute(query).all()
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


def usage(connection: Connection, job: JobId) -> Mapping[str, int]:
    counted = [jobs.c[name] for name in (*MADE, *SAVED)]
    found = connection.execute(select(*counted).where(jobs.c.id == job)).one_or_none()
    if found is None:
        raise JobUnknown(f"There is no job {job}.")
    return dict(found._mapping)
