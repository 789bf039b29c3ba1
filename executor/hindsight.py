"""How far off predictions of earlier jobs are, for what no part of them knows: tools that take the engines' cores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from executor.core.limits import Limits
from executor.engines.port import EngineSpec
from executor.prediction import Makespan, predict_makespan
from executor.store.jobs import JobRecord, JobStatus
from executor.store.port import Store
from executor.store.records import unix_time
from executor.tool_pools import ToolPool
from planner.cost.history import History
from planner.cost.quantiles import Quantiles
from planner.ir.codec import decode
from planner.ir.plan import Plan
from planner.table import Table

#: Of so many earlier jobs the one in the middle is believed, and none further than this from its prediction.
MOST_JOBS = 3
MOST_TIMES = 4.0
#: A job that made far fewer calls than predicted took answers of others, and tells nothing of calls that are made.
LIKE_CALLS = 0.25
_DRAWS = 3
_JOBS_READ = 20


@dataclass(frozen=True, slots=True)
class Earlier:
    """A job that ran, and how long from when it began to its end."""

    plan: Plan
    table: Table
    seconds: float
    calls: int


@dataclass(frozen=True, slots=True)
class Hindsight:
    """Earlier jobs took `times` as long as is predicted of them now; `jobs` were looked at."""

    times: float = 1.0
    jobs: int = 0

    def corrected(self, makespan: Makespan) -> Makespan:
        seconds = makespan.seconds
        return replace(makespan, seconds=Quantiles(*(self.times * s for s in (seconds.p10, seconds.p50, seconds.p90))))


NO_HINDSIGHT = Hindsight()


async def earlier_jobs(store: Store, workflow: str, plan: Plan, tenant: str = "default") -> Sequence[Earlier]:
    """The newest jobs of the tenant's workflow that ran this very plan and succeeded.

    Raises `StoreUnavailable`.
    """
    found: list[Earlier] = []
    for job in await store.jobs(tenant, JobStatus.SUCCEEDED, workflow, limit=_JOBS_READ):
        one = await _earlier(store, job)
        if one.plan == plan and one.seconds > 0:
            found.append(one)
        if len(found) == MOST_JOBS:
            break
    return found


async def hindsight_of(
    earlier: Sequence[Earlier],
    fleet: Sequence[EngineSpec],
    history: History,
    limits: Limits | None = None,
    seed: int = 0,
    tools: Mapping[str, ToolPool] | None = None,
    tenant: str = "",
) -> Hindsight:
    """Each of them is predicted as if the tenant were to run it now, on `fleet`, and held against what it took."""
    times = []
    for one in earlier:
        found = await predict_makespan(one.plan, one.table, fleet, history, limits, seed, _DRAWS, tools, tenant)
        if abs(one.calls - found.calls) <= LIKE_CALLS * found.calls and found.seconds.p50 > 0:
            times.append(one.seconds / found.seconds.p50)
    if not times:
        return NO_HINDSIGHT
    return Hindsight(min(MOST_TIMES, max(1 / MOST_TIMES, median(times))), len(times))


async def _earlier(store: Store, job: JobRecord) -> Earlier:
    assert job.started_at is not None
    assert job.ended_at is not None
    definition, usage = await store.definition(job.id), await store.usage(job.id)
    plan = decode(definition.plan)
    table = Table.from_rows(definition.rows, plan.inputs)
    return Earlier(plan, table, unix_time(job.ended_at) - unix_time(job.started_at), usage["calls"])
