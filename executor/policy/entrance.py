"""At the door: when a program would be done, and whether it is taken.

With tenants served by virtual time (`executor.policy.fairness`), who has `A` seconds of engines' time before it waits
until its tenant was given them: by then each other tenant was given as much by its weight, or all it wanted.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from executor.policy.fairness import Account, TenantShare
from executor.slo import SloClass
from planner.cost.correction import Correction

#: Somebody who was told to come back and has not come so long after that is not waited for any more.
PATIENCE_S = 30.0
#: Nobody is told to come back sooner.
SOONEST_S = 1.0
#: Who is over its quota is told to come back so many times as late as there should be room: the room of all who were
#: told so must be there, and what the fleet gives is known to some percent.
PRUDENCE = 1.15
#: By this part of its quota those of a tenant who were told to come back may go over it.
ELASTIC = 0.25
#: So many predictions are remembered until it is known how they came out. Of jobs that other processes run it never is.
_MOST_EXPECTED = 65_536
#: Room is kept for so many of one tenant who were told to come back; others are told to come after the last of them.
MOST_PROMISED = 8192
_LEAST_RATE = 1e-6


class OnLate(StrEnum):
    """What becomes of a program that cannot meet its deadline: its user's choice."""

    REJECT = "reject"
    DEGRADE = "degrade"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class Outlook:
    """The work that was taken, and how quickly it is done.

    `backlog_s` has the seconds of engines' time that the programs taken still need, `queued` how many programs those
    are, by tenant. The fleet gives `rate` such seconds in one.
    """

    backlog_s: Mapping[Account, float]
    queued: Mapping[str, int]
    rate: float
    shares: Mapping[str, TenantShare] = field(default_factory=dict)
    others: TenantShare = TenantShare()  # noqa: RUF009 - frozen

    def share(self, tenant: str) -> TenantShare:
        return self.shares.get(tenant, self.others)

    def before_s(self, account: Account) -> float:
        """Of its own tenant, what is as urgent or more."""
        mine = (one for one in self.backlog_s if one.tenant == account.tenant and one.slo.rank <= account.slo.rank)
        return sum(self.backlog_s[one] for one in mine)

    def wait_s(self, account: Account, engine_s: float) -> float:
        """Until the account's tenant was given so many seconds of engines' time."""
        idle = account.slo is SloClass.BACKGROUND
        turn_s = engine_s / self.share(account.tenant).weight
        given_s = 0.0
        for tenant, wanted_s in self._wanted_by_others(account.tenant, idle=idle).items():
            given_s += wanted_s if idle else min(wanted_s, turn_s * self.share(tenant).weight)
        return (engine_s + given_s) / max(self.rate, _LEAST_RATE)

    def _wanted_by_others(self, tenant: str, *, idle: bool) -> dict[str, float]:
        wanted_s: dict[str, float] = {}
        for account, engine_s in self.backlog_s.items():
            if account.tenant != tenant and (idle or account.slo is not SloClass.BACKGROUND):
                wanted_s[account.tenant] = wanted_s.get(account.tenant, 0.0) + engine_s
        return wanted_s


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants `programs` done: each costs about `engine_s` of engines' time and lasts about `took_s` once it has
    begun. They should be done in `deadline_s`. Who comes again has the same name in `who`."""

    account: Account
    engine_s: float
    took_s: float
    programs: int = 1
    deadline_s: float | None = None
    on_late: OnLate = OnLate.ACCEPT
    who: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`taken` as of class `slo`, to be done in about `done_s`; or refused: for it was over its quota, or `late_s` late,
    as far off as predictions are. Who comes back after `retry_after_s` will be taken; None where that would not help.
    """

    taken: bool
    slo: SloClass
    done_s: float
    late_s: float = 0.0
    over_quota: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Promise:
    due_s: float
    who: str | None
    programs: int


@dataclass(frozen=True, slots=True)
class _Expected:
    """A job that was taken at `since_s`: it would last so many `seconds`, uncorrected."""

    since_s: float
    seconds: float


@dataclass(slots=True)
class Entrance:
    """Gives verdicts, keeps room for those it told to come back, and learns from how its predictions come out."""

    correction: Correction = Correction()  # noqa: RUF009 - frozen
    most_promised: int = MOST_PROMISED
    _promises: dict[str, deque[_Promise]] = field(default_factory=dict)
    _expected: OrderedDict[str, _Expected] = field(default_factory=OrderedDict)

    def ask(self, ask: Ask, outlook: Outlook, now_s: float) -> Verdict:
        mine = self._take_promise(ask, now_s)
        promised = self._kept_for_others(ask.account.tenant, mine, now_s)
        done_s = self._done_s(ask, outlook, promised)
        over = self._over_quota(ask, outlook, promised)
        if over > (0 if mine is None else self._elastic(ask, outlook)):
            retry_s = self._promise(ask, outlook, now_s, PRUDENCE * outlook.wait_s(ask.account, over * ask.engine_s))
            return Verdict(False, ask.account.slo, done_s, over_quota=True, retry_after_s=retry_s)
        doubt = self.correction.error
        safe_s = done_s * (1 + doubt) if mine is None else done_s / (1 + doubt)
        late_s = 0.0 if ask.deadline_s is None else max(0.0, safe_s - ask.deadline_s)
        if not late_s or ask.on_late is OnLate.ACCEPT:
            return Verdict(True, ask.account.slo, done_s, late_s)
        if ask.on_late is OnLate.DEGRADE:
            lower = Account(ask.account.tenant, ask.account.slo.degraded)
            return Verdict(True, lower.slo, self._done_s(_as(ask, lower), outlook, promised), late_s)
        if ask.took_s * self.correction.factor > (ask.deadline_s or 0.0):  # nor would it be on an idle fleet
            return Verdict(False, ask.account.slo, done_s, late_s)
        retry_s = self._promise(ask, outlook, now_s, late_s * (1 + doubt))
        return Verdict(False, ask.account.slo, done_s, late_s, retry_after_s=retry_s)

    def taken(self, job: str, verdict: Verdict, now_s: float) -> None:
        """To be told when it has ended."""
        self._expected[job] = _Expected(now_s, verdict.done_s / self.correction.factor)
        if len(self._expected) > _MOST_EXPECTED:
            self._expected.popitem(last=False)

    def ended(self, job: str, now_s: float) -> None:
        """Of a job that nothing was predicted of, nothing is learnt."""
        expected = self._expected.pop(job, None)
        if expected is not None and expected.seconds > 0 and now_s > expected.since_s:
            self.correction = self.correction.after(expected.seconds, now_s - expected.since_s)

    def _done_s(self, ask: Ask, outlook: Outlook, promised: int) -> float:
        before_s = outlook.before_s(ask.account) + (promised + ask.programs - 1) * ask.engine_s
        return (outlook.wait_s(ask.account, before_s) + ask.took_s) * self.correction.factor

    def _over_quota(self, ask: Ask, outlook: Outlook, promised: int) -> int:
        """How many programs too many."""
        most = outlook.share(ask.account.tenant).queued
        if most is None:
            return 0
        return outlook.queued.get(ask.account.tenant, 0) + promised + ask.programs - most

    def _elastic(self, ask: Ask, outlook: Outlook) -> float:
        """So many more are taken of those who were told to come: work comes and goes unevenly, a word is kept."""
        return ELASTIC * (outlook.share(ask.account.tenant).queued or 0)

    def _take_promise(self, ask: Ask, now_s: float) -> _Promise | None:
        """What was told to who asks now: by its name, or where one without a name is due."""
        promises = self._promises.get(ask.account.tenant, deque())
        while promises and promises[0].due_s + PATIENCE_S < now_s:
            promises.popleft()
        mine = next((one for one in promises if one.who == ask.who and (ask.who or one.due_s <= now_s)), None)
        if mine is not None:
            promises.remove(mine)
        return mine

    def _kept_for_others(self, tenant: str, mine: _Promise | None, now_s: float) -> int:
        """The programs of those who were told to come back and have not; for one of them, of those before it."""
        promises = self._promises.get(tenant, ())
        if mine is None:
            return sum(one.programs for one in promises)
        return sum(one.programs for one in promises if now_s < one.due_s < mine.due_s)

    def _promise(self, ask: Ask, outlook: Outlook, now_s: float, after_s: float) -> float:
        """Behind everybody who was told to come back, by the time that its own work takes."""
        promises = self._promises.setdefault(ask.account.tenant, deque())
        due_s = now_s + max(after_s, SOONEST_S)
        if promises:
            apart_s = PRUDENCE * outlook.wait_s(ask.account, ask.programs * ask.engine_s)
            due_s = max(due_s, promises[-1].due_s + apart_s)
        if len(promises) < self.most_promised:
            promises.append(_Promise(due_s, ask.who, ask.programs))
        return due_s - now_s


def _as(ask: Ask, account: Account) -> Ask:
    return Ask(account, ask.engine_s, ask.took_s, ask.programs, ask.deadline_s, ask.on_late, ask.who)
