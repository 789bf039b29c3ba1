"""Forgetting old jobs, a piece at a time, so that whoever works on others never waits long."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, select

from executor.store.jobs import JobStatus
from executor.store.tables import OPEN, database_now, jobs, nodes
from planner.ir.ids import JobId

#: So many rows of nodes go in one transaction.
ROWS_AT_ONCE = 500


def forgettable(connection: Connection, older_than_s: float) -> Sequence[JobId]:
    """An open job reads outputs that it shares from the job that made them, perhaps by way of others."""
    needed = select(jobs.c.id.label("job")).where(OPEN).cte("needed", recursive=True)
    lenders = select(nodes.c.shared_job).join(needed, nodes.c.job_id == needed.c.job)
    needed = needed.union(lenders.where(nodes.c.shared_job.is_not(None)))
    old = jobs.c.ended_at < database_now() - older_than_s
    query = select(jobs.c.id).where(old, jobs.c.id.not_in(select(needed.c.job))).order_by(jobs.c.number)
    return [JobId(id) for id in connection.execute(query).scalars()]


def forget(connection: Connection, job: JobId) -> bool:
    """The nodes first: without them a job can still be read. Whether some are left."""
    status = connection.execute(select(jobs.c.status).where(jobs.c.id == job).with_for_update()).scalar()
    if status is None or not JobStatus(status).ended:
        return False
    first = connection.execute(select(func.min(nodes.c.row_index)).where(nodes.c.job_id == job)).scalar()
    if first is None:
        connection.execute(delete(jobs).where(jobs.c.id == job))  # and with it all else
        return False
    connection.execute(delete(nodes).where(nodes.c.job_id == job, nodes.c.row_index < first + ROWS_AT_ONCE))
    return True
