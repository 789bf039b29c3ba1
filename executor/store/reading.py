"""What is told of jobs: records, results, events, usage."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, func, literal, or_, select

from executor.commands import Status
from executor.slo import SloClass
from executor.store.failures import JobUnknown
from executor.store.jobs import JobDefinition, JobRecord, JobStatus, Pending
from executor.store.records import PENDING, decode_failure, decode_page, iso_time, job_record
from executor.store.tables import (
    OPEN,
    SHOWN,
    WORK_COLUMNS,
    database_now,
    decisions,
    events,
    jobs,
    nodes,
    plans,
    programs,
)
from executor.store.told import ResultRow, Served, StoredDecision, StoredEvent
from executor.store.writes import MADE, RECALLED, RESULT_CACHE, SAVED
from planner.cost.history import Seen
from planner.ir.ids import EngineId, JobId
from planner.measured import CallSpan, How, Tally

_RESULTS_A_PAGE = 500
_JOBS_SEEN = 50


def job(connection: Connection, job: JobId, tenant: str | None) -> JobRecord:
    found = connection.execute(select(jobs).where(SHOWN, jobs.c.id == job)).one_or_none()
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
    query = select(jobs).where(SHOWN).order_by(jobs.c.number.desc()).limit(limit)
    for column, wanted in ((jobs.c.tenant, tenant), (jobs.c.status, status), (jobs.c.workflow, workflow)):
        query = query if wanted is None else query.where(column == wanted)
    if before is not None:
        query = query.where(jobs.c.number < select(jobs.c.number).where(jobs.c.id == before).scalar_subquery())
    return [job_record(row) for row in connection.execute(query)]


def results_page(connection: Connection, job: JobId, after_row: int) -> list[ResultRow]:
    """None once the job is forgotten."""
    columns = select(programs.c.row_index, programs.c.status, programs.c.result, programs.c.failure)
    query = columns.join(jobs, jobs.c.id == programs.c.job_id).where(SHOWN, programs.c.job_id == job)
    following = query.where(programs.c.row_index > after_row).order_by(programs.c.row_index)
    page = connection.execute(following.limit(_RESULTS_A_PAGE)).all()
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


def job_decisions(
    connection: Connection, job: JobId, after_seq: int, limit: int, row: int | None, path: str | None
) -> Sequence[StoredDecision]:
    query = select(decisions).where(decisions.c.job_id == job, decisions.c.seq > after_seq)
    for column, wanted in ((decisions.c.row_index, row), (decisions.c.path, path)):
        query = query if wanted is None else query.where(column == wanted)
    found = connection.execute(query.order_by(decisions.c.seq).limit(limit)).all()
    return [
        StoredDecision(one.seq, one.row_index, one.path, one.attempt, iso_time(one.at), one.detail) for one in found
    ]


def usage(connection: Connection, job: JobId) -> Mapping[str, int]:
    counted = [jobs.c[name] for name in (*MADE, *SAVED, *RECALLED)]
    found = connection.execute(select(*counted).where(SHOWN, jobs.c.id == job)).one_or_none()
    if found is None:
        raise JobUnknown(f"There is no job {job}.")
    return dict(found._mapping)


def pending(connection: Connection) -> Sequence[Pending]:
    whose = jobs.c.tenant, jobs.c.slo, jobs.c.workflow
    left = func.sum(jobs.c.row_count - jobs.c.succeeded - jobs.c.failed - jobs.c.cancelled)
    found = connection.execute(select(*whose, left).where(OPEN).group_by(*whose).order_by(*whose))
    return [Pending(tenant, SloClass(slo), workflow, int(count)) for tenant, slo, workflow, count in found]


def definition(connection: Connection, job: JobId) -> JobDefinition:
    query = select(plans.c.text, jobs.c.beliefs, jobs.c.learnt).join(jobs, plans.c.hash == jobs.c.plan_hash)
    found = connection.execute(query.where(SHOWN, jobs.c.id == job)).one_or_none()
    if found is None:
        raise JobUnknown(f"There is no job {job}.")
    inputs = select(programs.c.input).where(programs.c.job_id == job).order_by(programs.c.row_index)
    rows = [row for page in connection.execute(inputs).scalars().partitions(1000) for row in decode_page(page)]
    return JobDefinition(found.text, rows, found.beliefs, found.learnt)


def tallies(connection: Connection, job: JobId) -> Sequence[Tally]:
    how = case(
        (nodes.c.shared_job.is_(None), literal(How.MADE.value)),
        (nodes.c.shared_job == RESULT_CACHE[0], literal(How.RECALLED.value)),
        else_=literal(How.SHARED.value),
    ).label("how")
    sums = [func.sum(nodes.c[column]).label(column) for column in WORK_COLUMNS.values()]
    done = nodes.c.job_id == job, nodes.c.status == "done"
    query = select(nodes.c.path, how, func.count().label("nodes"), *sums, *_times()).where(*done)
    rows = connection.execute(query.group_by(nodes.c.path, how)).all()
    return sorted(map(_tally, rows), key=lambda tally: (tally.path, tally.how))


def _times() -> list[ColumnElement[float]]:
    return [
        func.coalesce(func.sum(nodes.c.begun_at - nodes.c.ready_at), 0.0).label("waited_s"),
        func.coalesce(func.sum(nodes.c.ended_at - nodes.c.begun_at), 0.0).label("took_s"),
        func.min(nodes.c.begun_at).label("first_begun_at"),
        func.max(nodes.c.ended_at).label("last_ended_at"),
    ]


def _tally(row: Row[Any]) -> Tally:
    return Tally(
        path=row.path,
        how=How(row.how),
        nodes=row.nodes,
        **{name: int(row._mapping[column]) for name, column in WORK_COLUMNS.items()},
        waited_s=row.waited_s,
        took_s=row.took_s,
        first_begun_at=row.first_begun_at,
        last_ended_at=row.last_ended_at,
    )


def call_spans(connection: Connection, job: JobId) -> Sequence[CallSpan]:
    columns = (nodes.c.path, nodes.c.engine, nodes.c.begun_at, nodes.c.ended_at)
    query = select(*columns).where(nodes.c.job_id == job, nodes.c.engine.is_not(None), nodes.c.begun_at.is_not(None))
    spans = [CallSpan(path, EngineId(engine), begun, ended) for path, engine, begun, ended in connection.execute(query)]
    return sorted(spans, key=lambda span: (span.begun_at, span.ended_at, span.path))


def served(connection: Connection, seconds: float) -> Sequence[Served]:
    """Jobs that ended before are left out first: of them there are many, and of times there is no index."""
    since = database_now() - seconds
    columns = (nodes.c.calls, nodes.c.prompt_tokens, nodes.c.output_tokens, nodes.c.cached_tokens)
    query = (
        select(nodes.c.engine, *(func.sum(column) for column in columns))
        .join(jobs, nodes.c.job_id == jobs.c.id)
        .where(or_(jobs.c.ended_at.is_(None), jobs.c.ended_at >= since))
        .where(nodes.c.engine.is_not(None), nodes.c.ended_at >= since)
        .group_by(nodes.c.engine)
    )
    found = [Served(EngineId(engine), *map(int, sums)) for engine, *sums in connection.execute(query)]
    return sorted(found, key=lambda one: one.engine)


def seen(connection: Connection, workflow: str, tenant: str, limit: int) -> Sequence[Seen]:
    """Job by job, so that old ones are not read once there is enough."""
    found: list[Seen] = []
    newest = select(jobs.c.id).where(SHOWN, jobs.c.workflow == workflow, jobs.c.tenant == tenant)
    for job in connection.execute(newest.order_by(jobs.c.number.desc()).limit(_JOBS_SEEN)).scalars().all():
        if len(found) < limit:
            found.extend(_seen_in(connection, job, limit - len(found)))
    return found


def _seen_in(connection: Connection, job: str, limit: int) -> list[Seen]:
    query = select(
        nodes.c.path,
        nodes.c.output,
        nodes.c.ended_at - nodes.c.begun_at,
        nodes.c.prompt_tokens,
        nodes.c.output_tokens,
        nodes.c.cached_tokens,
    ).where(nodes.c.job_id == job, nodes.c.output.is_not(None), nodes.c.begun_at.is_not(None))
    return [Seen(*row) for row in connection.execute(query.order_by(nodes.c.row_index, nodes.c.path).limit(limit))]
