"""Accepting a job: it, its rows and its idempotency key stand together, or nothing does."""

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from executor.store.bulk import INSERT_EVENTS, INSERT_PROGRAMS
from executor.store.failures import IdempotencyConflict, StoreUnavailable
from executor.store.jobs import JobRecord, NewJob
from executor.store.records import encode_json, job_record
from executor.store.tables import SHOWN, database_now, jobs, plans, stored_text

ProgramRow = tuple[str, int, str]

_ROWS_AT_ONCE = 5000


def create_job(connection: Connection, job: NewJob, rows: Sequence[ProgramRow]) -> JobRecord:
    """`rows` are those of the job, as `program_rows` gives them: made beforehand, for they may take long."""
    _insert_plan(connection, job)
    if not _insert_job(connection, job):
        before = accepted(connection, job)
        if before is None:
            raise StoreUnavailable(f"A forgotten job was called {job.id}, too, and is being deleted.")
        return before
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        INSERT_PROGRAMS.run(connection, rows[start : start + _ROWS_AT_ONCE])
    INSERT_EVENTS.run(connection, [(stored_text(job.id), None, "job.queued", None)])
    return job_record(connection.execute(select(jobs).where(jobs.c.id == job.id)).one())


def program_rows(job: NewJob) -> list[ProgramRow]:
    job_id = stored_text(job.id)
    return [(job_id, index, stored_text(encode_json(row))) for index, row in enumerate(job.rows)]


def _plan_hash(job: NewJob) -> str:
    return hashlib.sha256(job.plan.encode("utf-8", "surrogatepass")).hexdigest()


def _insert_plan(connection: Connection, job: NewJob) -> None:
    plan = {"hash": _plan_hash(job), "text": job.plan}
    connection.execute(_insert_ignoring(connection, plans).values(plan).on_conflict_do_nothing())


def _insert_job(connection: Connection, job: NewJob) -> bool:
    """Whether it was new."""
    values = {
        "id": job.id,
        "tenant": job.tenant,
        "workflow": job.workflow,
        "plan_hash": _plan_hash(job),
        "priority": job.priority,
        "row_count": len(job.rows),
        "metadata": encode_json(dict(job.metadata)),
        "idempotency_key": job.idempotency_key,
        "request_hash": job.request_hash,
        "cache": job.cache,
        "slo": job.slo.value,
        "deadline_s": job.deadline_s,
        "created_at": database_now(),
    }
    insert = _insert_ignoring(connection, jobs).values(values).on_conflict_do_nothing()
    return connection.execute(insert).rowcount == 1


def _insert_ignoring(connection: Connection, table: Any) -> Any:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def accepted(connection: Connection, job: NewJob) -> JobRecord | None:
    """The job of this key, or this very job when its submitter did not hear that it was accepted."""
    found = None
    if job.idempotency_key is not None:
        same_key = (jobs.c.tenant == job.tenant) & (jobs.c.idempotency_key == job.idempotency_key)
        found = connection.execute(select(jobs).where(same_key)).one_or_none()
    found = found or connection.execute(select(jobs).where(SHOWN, jobs.c.id == job.id)).one_or_none()
    if found is None:
        return None
    if (found.tenant, found.request_hash, found.plan_hash) != (job.tenant, job.request_hash, _plan_hash(job)):
        raise IdempotencyConflict("The idempotency key was used before, for another request.")
    return job_record(found)
