"""What goes by way of the program state: hints. Without it everything is slower, and nothing is wrong."""

import structlog

from executor.store.jobs import JobRecord, JobStatus
from halo.service import views
from halo.service.parts import Parts
from halo.service.schemas.health import Check
from halo.service.schemas.runs import Doing
from kvstore.program_state import StateUnavailable
from planner.ir.ids import program_id

#: Of a run of many rows, the first are looked at.
MOST_LOOKED_AT = 20

log = structlog.get_logger(__name__)


async def live_of(record: JobRecord, parts: Parts) -> list[Doing]:
    """What the programs of a running run do right now, as far as anybody told."""
    if record.status is not JobStatus.RUNNING:
        return []
    programs = [program_id(record.id, row) for row in range(min(record.rows, MOST_LOOKED_AT))]
    try:
        states = [await parts.states.load(program) for program in programs]
    except StateUnavailable as error:
        log.warning("live state cannot be read", error=str(error))
        return []
    return [views.doing(state) for state in states if state]


async def wake_workers(parts: Parts) -> None:
    try:
        await parts.states.wake()
    except StateUnavailable as error:
        log.warning("workers were not woken; they look by themselves", error=str(error))


async def state_check(parts: Parts) -> Check:
    """A state that does not answer makes runs slower, not wrong: the service stays ready."""
    try:
        await parts.states.ping()
    except StateUnavailable as error:
        return Check(ready=False, detail=f"{parts.state_is}, does not answer: {error}")
    return Check(ready=True, detail=parts.state_is)
