"""Which runs are taken: those within their tenant's quota, and late ones as their user chose."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil

from executor.clock import Clock
from executor.core.program_costs import ProgramCost
from executor.policy.entrance import Ask, Entrance, OnLate, Outlook, Verdict
from executor.policy.fairness import Account
from executor.store.jobs import NewJob
from executor.store.port import Store
from halo.service.problems import QuotaFull, WouldBeLate
from planner.ir.ids import JobId


@dataclass(slots=True)
class Doorkeeper:
    """Looks at all that the store holds, and at how quickly this process does it."""

    store: Store
    outlook: Callable[[], Outlook]
    cost_of: Callable[[str], ProgramCost]
    clock: Clock
    entrance: Entrance = field(default_factory=Entrance)

    async def admit(self, job: NewJob, on_late: OnLate = OnLate.ACCEPT) -> NewJob:
        """The job as it is taken. Raises `QuotaFull` or `WouldBeLate`."""
        here = self.outlook()
        if job.deadline_s is None and here.share(job.tenant).queued is None:
            return job
        outlook = await self._with_all_stored(here)
        cost, now_s = self.cost_of(job.workflow), self.clock.now()
        account, who = Account(job.tenant, job.slo), job.idempotency_key
        ask = Ask(account, cost.engine_s, cost.took_s, len(job.rows), job.deadline_s, on_late, who)
        verdict = self.entrance.ask(ask, outlook, now_s)
        if not verdict.taken:
            raise _refusal(verdict)
        if cost.ended:
            self.entrance.taken(job.id, verdict, now_s)
        return replace(job, slo=verdict.slo)

    def ended(self, job: JobId) -> None:
        self.entrance.ended(job, self.clock.now())

    async def _with_all_stored(self, here: Outlook) -> Outlook:
        backlog_s: Counter[Account] = Counter()
        queued: Counter[str] = Counter()
        for pending in await self.store.pending():
            engine_s = pending.programs * self.cost_of(pending.workflow).engine_s
            backlog_s[Account(pending.tenant, pending.slo)] += engine_s  # type: ignore[assignment]
            queued[pending.tenant] += pending.programs
        return replace(here, backlog_s=backlog_s, queued=queued)


def _refusal(verdict: Verdict) -> QuotaFull | WouldBeLate:
    after_s = None if verdict.retry_after_s is None else ceil(verdict.retry_after_s)
    if verdict.over_quota:
        return QuotaFull("as many programs of this tenant are queued as may be", after_s)
    if not verdict.late_s:
        return WouldBeLate("what can be done in time is promised to those who were told to come back", after_s)
    told = f"it would be done in about {verdict.done_s:.0f} s, {verdict.late_s:.0f} s or so after its deadline"
    return WouldBeLate(told if after_s is not None else f"{told}, and would be late on an idle fleet, too", after_s)
