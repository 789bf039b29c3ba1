"""Jobs with programs that have not begun, by whose they are: whose program enters next."""

import heapq
from collections.abc import Collection, Mapping
from typing import Generic, NamedTuple, TypeVar

from executor.policy.fairness import Account, FairShares
from executor.policy.urgency import AGEING_S
from executor.slo import SloClass

#: So many programs more than there are places, as a part of these, run of tenants that run fewer than their share: all
#: places may be with programs of another tenant that all end late, since those that begin go before those that end.
RESERVE = 0.25

JobT = TypeVar("JobT")


class Entry(NamedTuple, Generic[JobT]):
    """Of one account, the least priority number goes first, then who must be done first, then the earlier job."""

    priority: int
    due_s: float
    number: int
    job: JobT


class Entering(Generic[JobT]):
    """Tenants take turns by what their programs are expected to cost. One goes on until it is a quantum ahead, so that
    programs with one prompt prefix enter together; it stops for more urgent work, and for a tenant that runs nothing.
    Where all places are taken, a tenant that runs fewer than its share of them need not wait for one that ends.

    Among tenants that have had as much, the most urgent class goes first; each step of class less goes first all the
    same once none of it began for `AGEING_S`.
    """

    def __init__(self, shares: FairShares) -> None:
        self.shares = shares
        self._waiting: dict[Account, list[Entry[JobT]]] = {}
        self._since_s: dict[Account, float] = {}  # since when none of it began
        self._turn: Account | None = None

    @property
    def accounts(self) -> Collection[Account]:
        """Of those with programs that have not begun."""
        return self._waiting.keys()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, account: Account, entry: Entry[JobT], now_s: float) -> None:
        self._since_s.setdefault(account, now_s)
        heapq.heappush(self._waiting.setdefault(account, []), entry)

    def first(self, running: Mapping[str, int], places: int, taken: int) -> Account | None:
        """Whose turn it is, where tenants run so many programs, and of so many `places` these are `taken`; None where
        nobody may run one more."""
        if taken >= places + int(RESERVE * places):
            return None
        able = [account for account in self._waiting if self._may_run(account.tenant, running)]
        entitled = able if taken < places else self._below_share(able, running, places)
        equals = [account for account in self.shares.equals(able) if account in entitled] if entitled else []
        if not equals:
            return None
        slo = min(equals, key=lambda account: self._since_s[account] + account.slo.rank * AGEING_S).slo
        urgent = [account for account in equals if account.slo is slo]
        idle = [account for account in urgent if account.tenant not in running] or urgent
        if self._turn not in idle:
            self._turn = min(idle, key=lambda account: self._waiting[account][0][:3])
        return self._turn

    def began(self, account: Account, now_s: float) -> None:
        """One of its programs did."""
        self._since_s[account] = now_s

    def next(self, account: Account) -> JobT:
        """The job of the account that goes first."""
        return self._waiting[account][0].job

    def drop(self, account: Account) -> None:
        """Every program of that job has begun, or it was cancelled."""
        heapq.heappop(self._waiting[account])
        if not self._waiting[account]:
            del self._waiting[account], self._since_s[account]

    def _below_share(
        self, accounts: Collection[Account], running: Mapping[str, int], places: int
    ) -> Collection[Account]:
        """Who may run one more though all places are taken: of tenants that run fewer than their share of them."""
        tenants = {*running, *(account.tenant for account in self._waiting)}
        if len(tenants) == 1:
            return ()
        each = places / sum(self.shares.share(tenant).weight for tenant in tenants)
        front = [account for account in accounts if account.slo is not SloClass.BACKGROUND]
        return [one for one in front if running.get(one.tenant, 0) < each * self.shares.share(one.tenant).weight]

    def _may_run(self, tenant: str, running: Mapping[str, int]) -> bool:
        most = self.shares.share(tenant).running
        return most is None or running.get(tenant, 0) < most
