"""Waiting for a run without asking the database all the time."""

from executor.store.jobs import JobRecord
from halo.event_loop import wait_for
from halo.service.parts import Parts
from planner.ir.ids import JobId

#: How often the store is asked of a run that another process may end, and of one that this process runs.
LOOK_ELSEWHERE_S = 1.0
LOOK_HERE_S = 15.0


async def until_ended(parts: Parts, job: JobId, tenant: str, timeout_s: float) -> JobRecord:
    """The run when it has ended, or as it stands after `timeout_s` or when the service goes down."""
    until = parts.clock.now() + timeout_s
    while True:
        with parts.endings.watch(job) as ended:
            record = await parts.store.job(job, tenant)
            left = until - parts.clock.now()
            if record.status.ended or left <= 0 or parts.endings.closed:
                return record
            every_s = LOOK_HERE_S if parts.progress(job) else LOOK_ELSEWHERE_S
            await wait_for(ended, min(left, every_s))
