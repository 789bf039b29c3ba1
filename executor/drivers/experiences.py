"""What earlier jobs took, for the jobs that begin now."""

from collections import OrderedDict

from executor.clock import Clock
from executor.store.jobs import JobContents
from executor.store.port import Store
from planner.cost.experience import Experience, experience_of
from planner.cost.history import history_of
from planner.ir.plan import Plan

#: Of so many calls and tool runs a job's beginning is told; more change little, and have to be read.
MOST_SEEN = 1000
#: Jobs of one plan that begin within this time are told the same: many small ones do not read it each.
REREAD_S = 30.0
KEPT = 256

_Key = tuple[str, str, str]


class Experiences:
    """Reads the store for the first job of a plan, and again where what was read has grown old."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._read: OrderedDict[_Key, tuple[float, Experience]] = OrderedDict()

    async def of(self, contents: JobContents, plan: Plan) -> Experience:
        """Raises `StoreUnavailable`."""
        record = contents.record
        key = record.tenant, record.workflow, contents.plan
        read_at, known = self._read.get(key, (float("-inf"), None))
        if known is not None and self._clock.now() < read_at + REREAD_S:
            return known
        seen = await self._store.seen(record.workflow, record.tenant, MOST_SEEN)
        found = experience_of(plan, history_of(seen))
        self._read[key] = self._clock.now(), found
        self._read.move_to_end(key)
        if len(self._read) > KEPT:
            self._read.popitem(last=False)
        return found
