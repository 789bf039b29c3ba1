"""Calls that are ready and wait for an engine: by job, and of each job the first few hundred to be chosen among.

Calls of a stage that engines share as planned stand apart from those of others, so that an engine can take what it
should have more of."""

import heapq
from collections import deque
from collections.abc import Collection, Sequence
from itertools import count
from math import inf

from executor.core.fleet import Fleet
from executor.core.stage_shares import StageShares
from executor.core.warm_order import MayEnter, Ready, WarmOrder, anywhere
from executor.core.work import Work
from executor.policy.fairness import Account
from executor.policy.ordering import CallRank, QueueKey, passed_over
from executor.policy.urgency import aged_s
from kvstore.prefix_index import BlockName
from planner.ir.ids import EngineId

#: Among how many calls of a job, the first in program order, the next one is chosen.
LOOK_AHEAD = 256
_TIDY_AT = 4 * LOOK_AHEAD

_JobKey = tuple[int, float, int]


class ReadyCalls:
    """The ready calls of one pool, by whose they are: jobs by priority, then by age, of which a class
    is some minutes (`executor.policy.urgency`). Dropped works are passed over."""

    def __init__(self, pool: str, fleet: Fleet[Work], most_passes: int, may_enter: MayEnter = anywhere) -> None:
        self._pool, self._fleet, self._most_passes, self._may_enter = pool, fleet, most_passes, may_enter
        self._frontiers: dict[_JobKey, dict[StageShares | None, Frontier]] = {}
        self._keys: dict[Account, list[_JobKey]] = {}

    def push(self, work: Work) -> None:
        program = work.program
        key = program.order.priority, aged_s(program.arrived_s, program.slo), program.order.job
        of_job = self._frontiers.get(key)
        if of_job is None:
            of_job = self._frontiers[key] = {}
            heapq.heappush(self._keys.setdefault(work.program.account, []), key)
        frontier = of_job.get(work.shares)
        if frontier is None:
            frontier = Frontier(self._pool, self._fleet, self._most_passes, work.shares, self._may_enter)
            of_job[work.shares] = frontier
        frontier.push(work)

    def accounts(self) -> list[Account]:
        """Whose calls wait."""
        return [account for account in list(self._keys) if self._first(account)]

    def frontiers(self, accounts: Collection[Account] | None = None) -> "Sequence[Frontier]":
        """The ready calls of the job that goes first; none where no call waits. Of several accounts, which are equals,
        those of the first job of each that has the least priority number."""
        asked = list(self._keys) if accounts is None else accounts
        first = [key for account in asked if (key := self._first(account)) is not None]
        if not first:
            return ()
        best = min(first)
        keys = [best] if accounts is None else [key for key in first if key[0] == best[0]]
        return [frontier for key in keys for frontier in self._frontiers[key].values() if not frontier.empty]

    def place(self) -> tuple[float, ...]:
        """Of its first job, among those of other pools; the least goes first."""
        return min((key for account in list(self._keys) if (key := self._first(account)) is not None), default=(inf,))

    def _first(self, account: Account) -> _JobKey | None:
        """The first job of the account whose calls wait; of those before it nothing is kept."""
        keys = self._keys.get(account, [])
        while keys:
            for frontier in self._frontiers[keys[0]].values():
                if not frontier.empty:
                    return keys[0]
            for frontier in self._frontiers.pop(heapq.heappop(keys)).values():
                frontier.close()
        self._keys.pop(account, None)
        return None


class Frontier:
    """The ready calls of one job: of one stage with `shares`, or of all that have none. All are ready: whichever goes
    first, nothing is done before what it depends on."""

    def __init__(
        self,
        pool: str,
        fleet: Fleet[Work],
        most_passes: int,
        shares: StageShares | None = None,
        may_enter: MayEnter = anywhere,
    ) -> None:
        self._pool, self._fleet, self._most_passes, self._may_enter = pool, fleet, most_passes, may_enter
        self._shares = shares
        self._arrivals = count()
        self._sent = 0
        self._choosy: list[tuple[QueueKey, int, Ready]] = []
        self._rest: list[tuple[QueueKey, int, Ready]] = []
        self._near = 0
        self._near_blocks: dict[BlockName, int] = {}
        self._by_path: list[tuple[float, int, int, Ready]] = []
        self._by_age: deque[Ready] = deque()
        self._warm: dict[EngineId, WarmOrder] = {}

    def push(self, work: Work) -> None:
        ready = Ready(work, self._pool, left_s(work), next(self._arrivals), work.queued)
        if work.avoid or work.suspect:
            heapq.heappush(self._choosy, (work.program.order, ready.arrival, ready))
        elif self._rest or self._near >= LOOK_AHEAD:
            heapq.heappush(self._rest, (work.program.order, ready.arrival, ready))
        else:
            self._come_near(ready)

    @property
    def shares(self) -> StageShares | None:
        """Those to be kept to: None once an engine that the plan counts on does not answer."""
        if self._shares is None or not self._fleet.all_up(self._shares.engines):
            return None
        return self._shares

    def rank(self, ready: Ready, engine: EngineId) -> CallRank:
        """Among the best calls of several frontiers, the one of least rank goes first."""
        blocks = ready.work.prefix
        warm = self._fleet.caches[engine].match(blocks)
        elsewhere = self._fleet.warmer_elsewhere(engine, self._pool, blocks, warm)
        return CallRank(-warm, elsewhere, -ready.left_s, ready.work.program.order.position, ready.arrival)

    @property
    def empty(self) -> bool:
        return self._first_by_path() is None and self.choosy() is None

    def choosy(self) -> Ready | None:
        """The first call that failed before, and so cannot go to every engine, or must be alone there."""
        return _first(self._choosy)

    def best(self, engine: EngineId) -> Ready | None:
        """The call that engine should take next; None where each had better wait. It stays here until it is sent."""
        longest, oldest = self._first_by_path(), self._oldest()
        if oldest is None or longest is None:
            return None
        comes_warm = self._fleet.caches[engine].comes_warm
        if self.is_overdue(oldest) and not comes_warm(oldest.work.prefix) and self._may_enter(oldest.work, engine):
            return oldest
        if (not self._near_blocks or self._all_fits(engine)) and self._may_enter(longest.work, engine):
            return longest
        return self._order(engine).first()

    def is_overdue(self, ready: Ready) -> bool:
        """Whether as many others went before it as may."""
        return ready.near and passed_over(self._sent - ready.entered, self._most_passes)

    def take(self, ready: Ready) -> Work:
        """It is sent, or given up."""
        self._sent += 1
        self._leave(ready)
        return ready.work

    def close(self) -> None:
        """It is empty and will not be asked again."""
        for order in self._warm.values():
            order.close()

    def any(self) -> Ready:
        ready = self.choosy() or self._first_by_path()
        assert ready is not None, "no call waits"
        return ready

    def _oldest(self) -> Ready | None:
        while self._by_age and not self._by_age[0].waits:
            self._by_age.popleft()
        return self._by_age[0] if self._by_age else None

    def _first_by_path(self) -> Ready | None:
        if self._rest and self._near < LOOK_AHEAD:
            self._refill()
        while self._by_path and not self._by_path[0][3].waits:
            self._leave(heapq.heappop(self._by_path)[3])
            self._refill()
        return self._by_path[0][3] if self._by_path else None

    def _refill(self) -> None:
        while self._near < LOOK_AHEAD and _first(self._rest) is not None:
            self._come_near(heapq.heappop(self._rest)[2])

    def _come_near(self, ready: Ready) -> None:
        ready.near, ready.entered = True, self._sent
        self._near += 1
        for block in ready.work.prefix:
            self._near_blocks[block] = self._near_blocks.get(block, 0) + 1
        position = ready.work.program.order.position
        heapq.heappush(self._by_path, (-ready.left_s, position, ready.arrival, ready))
        self._by_age.append(ready)
        for order in self._warm.values():
            order.add(ready)
            order.tidy(_TIDY_AT)
        if len(self._by_path) > _TIDY_AT:
            self._tidy()

    def _tidy(self) -> None:
        for entry in self._by_path:
            if not entry[3].waits:
                self._leave(entry[3])
        self._by_path = [entry for entry in self._by_path if not entry[3].gone]
        heapq.heapify(self._by_path)

    def _leave(self, ready: Ready) -> None:
        if ready.gone:
            return
        ready.leave()
        if not ready.near:
            return
        self._near -= 1
        for block in ready.work.prefix:
            users = self._near_blocks[block] - 1
            if users:
                self._near_blocks[block] = users
            else:
                del self._near_blocks[block]

    def _all_fits(self, engine: EngineId) -> bool:
        """Whether no order among these calls could change what is warm for them: then programs go by what is left of
        them. With several engines the order also decides where a beginning is computed."""
        cache = self._fleet.caches[engine]
        if cache.warm_first or not cache.holds(len(self._near_blocks)):
            return False
        return len(self._fleet.serving(self._pool)) <= 1

    def _order(self, engine: EngineId) -> WarmOrder:
        order = self._warm.get(engine)
        if order is None:
            order = self._warm[engine] = WarmOrder(engine, self._fleet, self._may_enter)
            for *_, ready in sorted(self._by_path):
                if ready.waits:
                    order.add(ready)
        return order


def _first(heap: list[tuple[QueueKey, int, Ready]]) -> Ready | None:
    while heap and not heap[0][2].waits:
        heapq.heappop(heap)
    return heap[0][2] if heap else None


def left_s(work: Work) -> float:
    """From the beginning of this call to the end of its program, along the longest path."""
    frame = work.frame
    index = work.agent.index if work.agent is not None else work.index
    left = frame.template.took_s[index] + frame.template.behind_s[index]
    while frame.owner is not None:
        left += frame.owner.frame.template.behind_s[frame.owner.index]
        frame = frame.owner.frame
    return left
