"""Who may run which job: leases by the database's clock, and attempts that fence late writers."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from executor.store.bulk import INSERT_EVENTS
from executor.store.failures import Fenced, JobUnknown
from executor.store.jobs import Claim, JobRecord, JobStatus, Weights
from executor.store.records import job_record
from executor.store.tables import OPEN, RUNNING, SHOWN, database_now, jobs, programs, stored_text
from executor.store.turns import first_free, free, next_job
from planner.ir.ids import JobId


def claim(connection: Connection, owner: str, lease_s: float, job: JobId | None, weights: Weights) -> Claim | None:
    for wanted in _wanted(owner, job, weights):
        taken = connection.execute(_take(owner, lease_s, wanted)).one_or_none()
        if taken is not None:
            return _told(connection, taken)
    return None


def _wanted(owner: str, job: JobId | None, weights: Weights) -> Sequence[Select[tuple[int]]]:
    """Others may be about to take all of the tenant whose turn it is: then anybody's is better than none."""
    if job is None:
        return [one.with_for_update(skip_locked=True) for one in (next_job(weights), first_free())]
    may_have = or_(free(), jobs.c.owner == owner)
    return [select(jobs.c.number).where(OPEN, jobs.c.id == job, may_have).with_for_update()]


def _told(connection: Connection, taken: Row[tuple[str, int]]) -> Claim:
    kind = "job.running" if taken.attempt == 1 else "job.taken_over"
    INSERT_EVENTS.run(connection, [(stored_text(taken.id), None, kind, None)])
    return Claim(JobId(taken.id), taken.attempt)


def _take(owner: str, lease_s: float, wanted: Select[tuple[int]]) -> ReturningUpdate[tuple[str, int]]:
    return (
        update(jobs)
        .where(jobs.c.number == wanted.limit(1).scalar_subquery())
        .values(
            status=JobStatus.RUNNING,
            owner=owner,
            lease_until=database_now() + lease_s,
            attempt=jobs.c.attempt + 1,
            started_at=func.coalesce(jobs.c.started_at, database_now()),
        )
        .returning(jobs.c.id, jobs.c.attempt)
    )


def renew(connection: Connection, owner: str, lease_s: float) -> Sequence[JobId]:
    held = update(jobs).where(RUNNING, jobs.c.owner == owner).values(lease_until=database_now() + lease_s)
    return [JobId(row.id) for row in connection.execute(held.returning(jobs.c.id))]


def release(connection: Connection, claim: Claim) -> None:
    connection.execute(update(jobs).where(RUNNING, _held_by(claim)).values(owner=None, lease_until=0))


def _held_by(claim: Claim) -> ColumnElement[bool]:
    return and_(jobs.c.id == claim.job, jobs.c.attempt == claim.attempt)


def check_fence(connection: Connection, claim: Claim) -> None:
    """Keeps the job's row for this transaction. Raises `Fenced`, `JobUnknown`."""
    query = select(jobs.c.attempt).where(jobs.c.id == claim.job).with_for_update()
    attempt = connection.execute(query).scalar()
    if attempt is None:
        raise JobUnknown(f"There is no job {claim.job}.")
    if attempt != claim.attempt:
        raise Fenced(f"Job {claim.job} was claimed again: attempt {attempt}, not {claim.attempt}.")


def request_cancel(connection: Connection, job: JobId, tenant: str | None) -> JobRecord:
    found = connection.execute(select(jobs).where(SHOWN, jobs.c.id == job).with_for_update()).one_or_none()
    if found is None or tenant not in (None, found.tenant):
        raise JobUnknown(f"There is no job {job}.")
    if not (JobStatus(found.status).ended or found.cancel_requested):
        connection.execute(update(jobs).where(jobs.c.id == job).values(cancel_requested=True))
        INSERT_EVENTS.run(connection, [(stored_text(job), None, "job.cancel_requested", None)])
    if found.status == JobStatus.QUEUED:
        end_job(connection, job, JobStatus.CANCELLED)
    return job_record(connection.execute(select(jobs).where(jobs.c.id == job)).one())


def end_job(connection: Connection, job: JobId, status: JobStatus) -> None:
    """Ends a job that has not ended; for one that has, nothing happens."""
    over = {"status": status, "ended_at": database_now(), "owner": None, "lease_until": 0}
    if connection.execute(update(jobs).where(OPEN, jobs.c.id == job).values(over)).rowcount == 0:
        return
    if status == JobStatus.CANCELLED:
        _cancel_programs(connection, job)
    INSERT_EVENTS.run(connection, [(stored_text(job), None, f"job.{status.value}", None)])


def _cancel_programs(connection: Connection, job: JobId) -> None:
    left = update(programs).where(programs.c.job_id == job, programs.c.status == "pending").values(status="cancelled")
    count = connection.execute(left).rowcount
    connection.execute(update(jobs).where(jobs.c.id == job).values(cancelled=jobs.c.cancelled + count))


def cancels_requested(connection: Connection, owner: str) -> Sequence[JobId]:
    query = select(jobs.c.id).where(RUNNING, jobs.c.owner == owner, jobs.c.cancel_requested).order_by(jobs.c.number)
    return [JobId(row.id) for row in connection.execute(query)]
