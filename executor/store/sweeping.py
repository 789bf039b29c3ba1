"""Forgetting old jobs: at once they are shown to nobody, then they are deleted so many rows at a time.

Whoever works on others never waits long. What a crash leaves half deleted is seen by nobody, and deleted next time.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, func, select, update

from executor.store.tables import FORGOTTEN, OPEN, SHOWN, database_now, decisions, events, jobs, nodes, programs
from planner.ir.ids import JobId

#: Rows of a job by table, and the column that each is deleted in the order of.
_PARTS: tuple[tuple[Table, Column[int]], ...] = (
    (nodes, nodes.c.row_index),
    (decisions, decisions.c.seq),
    (events, events.c.seq),
    (programs, programs.c.row_index),
)
_BEYOND_ALL = 2**62


def forgettable(connection: Connection, older_than_s: float) -> Sequence[JobId]:
    """An open job reads outputs that it shares from the job that made them, perhaps by way of others."""
    needed = select(jobs.c.id.label("job")).where(OPEN).cte("needed", recursive=True)
    lenders = select(nodes.c.shared_job).join(needed, nodes.c.job_id == needed.c.job)
    needed = needed.union(lenders.where(nodes.c.shared_job.is_not(None)))
    old = jobs.c.ended_at < database_now() - older_than_s
    query = select(jobs.c.id).where(SHOWN, old, jobs.c.id.not_in(select(needed.c.job))).order_by(jobs.c.number)
    return [JobId(id) for id in connection.execute(query).scalars()]


def forget(connection: Connection, wanted: Sequence[JobId]) -> None:
    ended = jobs.c.ended_at.is_not(None), jobs.c.id.in_(wanted)
    connection.execute(update(jobs).where(*ended).values(forgotten=True, idempotency_key=None))


def erase(connection: Connection, rows: int) -> int:
    first = select(jobs.c.id).where(FORGOTTEN).order_by(jobs.c.number).limit(rows).with_for_update(skip_locked=True)
    left = rows
    for job in connection.execute(first).scalars().all():
        left -= _erase(connection, job, left)
        if left <= 0:
            break
    return rows - left


def _erase(connection: Connection, job: str, rows: int) -> int:
    """How many rows of the job went; its own is the last."""
    left = rows
    for table, order in _PARTS:
        left -= connection.execute(_first_of(table, order, job, left)).rowcount
        if left <= 0:
            return rows - left
    connection.execute(delete(jobs).where(jobs.c.id == job))
    return rows - left + 1


def _first_of(table: Table, order: Column[int], job: str, rows: int) -> Any:
    """So many of the job's rows there, and those that are of one order with the last."""
    of_job = table.c.job_id == job
    last = select(order).where(of_job).order_by(order).offset(rows - 1).limit(1).scalar_subquery()
    return delete(table).where(of_job, order <= func.coalesce(last, _BEYOND_ALL))
