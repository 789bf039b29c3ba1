"""At the door: when a program would be done, and whether it is taken.

With tenants served by virtual time (`executor.policy.fairness`), who has `A` seconds of engines' time before it waits
until its tenant was given them: by then each other tenant was given as much by its weight, or all it wanted. Who comes
is taken while everybody who was taken, or was told to come back, can still be in time: their work by each of their
deadlines, the earliest first, must be done by then (the demand test of earliest deadline first; Baruah, Rosier and
Howell, Real-Time Systems 2, 1990).
"""

from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from math import inf

from executor.policy.fairness import Account, TenantShare
from executor.policy.foresight import Foresight
from executor.policy.urgency import PATIENCE_S as UNDUE_S
from executor.slo import SloClass

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
#: Who goes before those who were told to come back keeps the fleet busy until they do: it may wait for that part of
#: what it might. What is left is for them, and for what predictions miss.
FILL = 0.5
#: With each that asks, so many tenants are looked at for promises that nobody came for, and so many of each forgotten:
#: of tenants that never ask again nothing stays, and no ask takes long for it.
_TENANTS_SWEPT, _MOST_SWEPT = 2, 64
_LEAST_RATE = 1e-6
_ROUNDING_S = 1e-6
#: What is behind is looked at by the slope of the wait, over so many seconds of work.
_STEP_S = 0.01


class OnLate(StrEnum):
    """What becomes of a program that cannot meet its deadline: its user's choice."""

    REJECT = "reject"
    DEGRADE = "degrade"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class Outlook:
    """The work that was taken, and how quickly it is done.

    `backlog_s` has the seconds of engines' time that the programs taken still need, `begun_s` what of it is of programs
    that engines work on, and `queued` how many programs there are, by tenant. The fleet gives `rate` such seconds in
    one: as was `seen`, or as is believed.
    """

    backlog_s: Mapping[Account, float]
    queued: Mapping[str, int]
    rate: float
    shares: Mapping[str, TenantShare] = field(default_factory=dict)
    others: TenantShare = TenantShare()  # noqa: RUF009 - frozen
    begun_s: Mapping[Account, float] = field(default_factory=dict)
    seen: bool = True

    def share(self, tenant: str) -> TenantShare:
        return self.shares.get(tenant, self.others)

    def before_s(self, account: Account) -> float:
        """Of its own tenant, what is as urgent or more and has not begun: what has ends beside it."""
        mine = (one for one in self.backlog_s if one.tenant == account.tenant and one.slo.rank <= account.slo.rank)
        return sum(max(0.0, self.backlog_s[one] - self.begun_s.get(one, 0.0)) for one in mine)

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
    """Somebody wants `programs` done: each costs about `engine_s` of engines' time and lasts about `took_s` where no
    call of it has to wait. They should be done in `deadline_s`. Who comes again has the same name in `who`."""

    account: Account
    engine_s: float
    took_s: float
    programs: int = 1
    deadline_s: float | None = None
    on_late: OnLate = OnLate.ACCEPT
    who: str | None = None

    @property
    def all_s(self) -> float:
        """What its programs cost together."""
        return self.programs * self.engine_s

    @property
    def within_s(self) -> float:
        """In what time it is done at the latest, as the core orders work."""
        return UNDUE_S if self.deadline_s is None else self.deadline_s


@dataclass(frozen=True, slots=True)
class Expected:
    """A job should be done in `done_s`: so many `seconds` corrected by what is usual. If no call of it had to wait, it
    would take `took_s`."""

    done_s: float
    seconds: float
    took_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`taken` as of class `slo`, to be done in about `done_s`; or refused: for it was over its quota, or `late_s` late,
    as far off as predictions are, or since those who were told to come back would be. Who comes back after
    `retry_after_s` will be taken; None where that would not help. Who asks before that and is refused again keeps its
    turn. What is `expected` is told where something can be learnt from how it comes out.
    """

    taken: bool
    slo: SloClass
    done_s: float
    late_s: float = 0.0
    over_quota: bool = False
    retry_after_s: float | None = None
    expected: Expected | None = None


@dataclass(frozen=True, slots=True)
class _Promise:
    """Who asked so, and comes at `due_s`, is taken."""

    due_s: float
    ask: Ask

    @property
    def last_s(self) -> float:
        """By when it must be done."""
        return self.due_s + self.ask.within_s

    def is_due(self, now_s: float) -> bool:
        """Who comes when it was told to may be early by what rounding takes."""
        return self.due_s <= now_s + _ROUNDING_S


@dataclass(slots=True)
class Entrance:
    """Gives verdicts, keeps room for those it told to come back, and learns from how its predictions come out."""

    foresight: Foresight = field(default_factory=Foresight)
    most_promised: int = MOST_PROMISED
    _promises: OrderedDict[str, deque[_Promise]] = field(default_factory=OrderedDict)
    _expected: OrderedDict[str, tuple[float, Expected]] = field(default_factory=OrderedDict)

    def ask(self, ask: Ask, outlook: Outlook, now_s: float) -> Verdict:
        self._sweep(now_s)
        told = self._take_promise(ask, now_s)
        mine = told if told is not None and told.is_due(now_s) else None
        expected = self._expect(ask, outlook, self._promised_before(ask, mine, now_s))
        over = self._over_quota(ask, outlook, self._kept_for_others(ask, outlook, mine, now_s))
        if over > (0 if mine is None else self._elastic(ask, outlook)):
            room_s = PRUDENCE * outlook.wait_s(ask.account, over * ask.engine_s)
            retry_s = self._come_back(ask, outlook, now_s, room_s, None if mine else told)
            return Verdict(False, ask.account.slo, expected.done_s, over_quota=True, retry_after_s=retry_s)
        late_s = self._late_s(ask, expected, told=mine is not None)
        if ask.deadline_s is None or ask.on_late is OnLate.ACCEPT:
            return _taken(ask, expected, outlook, late_s)
        if not late_s and (mine is not None or self._may_pass(ask, expected, outlook, now_s)):
            return _taken(ask, expected, outlook)
        if ask.on_late is OnLate.DEGRADE:
            lower = replace(ask, account=Account(ask.account.tenant, ask.account.slo.degraded))
            behind_s = self._promised_before(lower, mine, now_s)
            return _taken(lower, self._expect(lower, outlook, behind_s), outlook, late_s)
        if self._hopeless(ask):
            return Verdict(False, ask.account.slo, expected.done_s, late_s)
        retry_s = self._come_back(ask, outlook, now_s, late_s, None if mine else told)
        return Verdict(False, ask.account.slo, expected.done_s, late_s, retry_after_s=retry_s)

    def taken(self, job: str, verdict: Verdict, now_s: float) -> None:
        """To be told when it has ended."""
        if verdict.expected is None:
            return
        self._expected[job] = now_s, verdict.expected
        if len(self._expected) > _MOST_EXPECTED:
            self._expected.popitem(last=False)

    def ended(self, job: str, now_s: float) -> None:
        """Of a job that nothing was predicted of, nothing is learnt."""
        since_s, expected = self._expected.pop(job, (now_s, None))
        if expected is not None and expected.took_s > 0 and now_s > since_s:
            self.foresight.learn(expected.seconds, expected.done_s, expected.took_s, now_s - since_s)

    def _expect(self, ask: Ask, outlook: Outlook, promised_s: float) -> Expected:
        """Behind so much work that others were promised."""
        before_s = outlook.before_s(ask.account) + promised_s + (ask.programs - 1) * ask.engine_s
        seconds = outlook.wait_s(ask.account, before_s) + ask.took_s
        return Expected(seconds * self.foresight.usual, seconds, ask.took_s)

    def _hopeless(self, ask: Ask) -> bool:
        """Whether it would be late on an idle fleet, too."""
        return ask.took_s * self.foresight.usual > ask.within_s

    def _late_s(self, ask: Ask, expected: Expected, *, told: bool) -> float:
        """Who was told to come back has the benefit of the doubt."""
        if ask.deadline_s is None:
            return 0.0
        doubted_s = self.foresight.at_least_s if told else self.foresight.at_most_s
        late_s = doubted_s(expected.done_s, ask.took_s) - ask.deadline_s
        return late_s if late_s > _ROUNDING_S else 0.0

    def _promised_before(self, ask: Ask, mine: _Promise | None, now_s: float) -> float:
        """The work of those who were told to come back and must be done sooner. Of those who are due and have not come,
        only who was not told anything waits for it."""
        since_s, last_s, rank = -inf if mine is None else now_s, now_s + ask.within_s, ask.account.slo.rank
        promises = self._promises.get(ask.account.tenant, ())
        sooner = (one.ask for one in promises if one.due_s > since_s and one.last_s < last_s)
        return sum(one.all_s for one in sooner if one.account.slo.rank <= rank)

    def _may_pass(self, ask: Ask, expected: Expected, outlook: Outlook, now_s: float) -> bool:
        """Whether it may go before those who were told to come back."""
        promises = self._promises.get(ask.account.tenant)
        if not promises:
            return True
        spare_s = FILL * (ask.within_s - ask.took_s)
        if self.foresight.at_most_s(expected.done_s, ask.took_s) > ask.took_s + spare_s:
            return False
        in_order = sorted(promises, key=lambda one: one.last_s)
        told = {one.ask.account.slo for one in promises}
        behind = [slo for slo in SloClass if slo in told and slo.rank >= ask.account.slo.rank]
        return all(self._words_hold(slo, in_order, ask, outlook, now_s) for slo in behind)

    def _words_hold(
        self, slo: SloClass, in_order: Sequence[_Promise], ask: Ask, outlook: Outlook, now_s: float
    ) -> bool:
        """Whether those of that class who were told to come back would be in time behind it: of all, the earliest
        deadline first."""
        account, before_s = Account(ask.account.tenant, slo), 0.0
        since_s = now_s + ask.within_s if slo is ask.account.slo else -inf
        wait_s, each_s = _slope(outlook, account, outlook.before_s(account) + ask.all_s)
        for one in in_order:
            if one.ask.account.slo.rank <= slo.rank:
                before_s += one.ask.all_s
            if one.ask.account.slo is not slo or one.last_s < since_s:
                continue
            done_s = (wait_s + each_s * before_s + one.ask.took_s) * self.foresight.usual
            if self.foresight.at_most_s(done_s, one.ask.took_s) > one.last_s - now_s:
                return False
        return True

    def _over_quota(self, ask: Ask, outlook: Outlook, promised: float) -> float:
        """How many programs too many."""
        most = outlook.share(ask.account.tenant).queued
        if most is None:
            return 0.0
        return outlook.queued.get(ask.account.tenant, 0) + promised + ask.programs - most

    def _elastic(self, ask: Ask, outlook: Outlook) -> float:
        """So many more are taken of those who were told to come: work comes and goes unevenly, a word is kept."""
        return ELASTIC * (outlook.share(ask.account.tenant).queued or 0)

    def _take_promise(self, ask: Ask, now_s: float) -> _Promise | None:
        """What was told to who asks now: by its name, or where one without a name is due."""
        promises = self._promises.get(ask.account.tenant, deque())
        _forget(promises, now_s, len(promises))
        told = next((one for one in promises if one.ask.who == ask.who and (ask.who or one.is_due(now_s))), None)
        if told is not None:
            promises.remove(told)
        return told

    def _sweep(self, now_s: float) -> None:
        """Of tenants that do not ask any more, too, who did not come is forgotten: each tenant in its turn."""
        for tenant in list(islice(self._promises, _TENANTS_SWEPT)):
            _forget(self._promises[tenant], now_s, _MOST_SWEPT)
            self._promises.move_to_end(tenant)
            if not self._promises[tenant]:
                del self._promises[tenant]

    def _kept_for_others(self, ask: Ask, outlook: Outlook, mine: _Promise | None, now_s: float) -> float:
        """The places of those who were told to come back and have not, as far as none will be free by then; for one of
        them, of those before it."""
        promises = self._promises.get(ask.account.tenant, ())
        if mine is not None:
            return sum(one.ask.programs for one in promises if now_s < one.due_s < mine.due_s)
        each_s = max(outlook.wait_s(ask.account, ask.engine_s), _LEAST_RATE)
        come, kept = 0, 0.0
        for one in promises:
            come += one.ask.programs
            kept = max(kept, come - max(0.0, one.due_s - now_s) / each_s)
        return kept

    def _come_back(self, ask: Ask, outlook: Outlook, now_s: float, after_s: float, early: _Promise | None) -> float:
        """In how long. Who is early for what it was told is told the same again."""
        if early is None:
            return self._promise(ask, outlook, now_s, after_s)
        insort(self._promises[ask.account.tenant], early, key=lambda one: one.due_s)
        return max(early.due_s - now_s, SOONEST_S)

    def _promise(self, ask: Ask, outlook: Outlook, now_s: float, after_s: float) -> float:
        """Behind everybody who was told to come back, by the time that its own work takes."""
        promises = self._promises.setdefault(ask.account.tenant, deque())
        due_s = now_s + max(after_s, SOONEST_S)
        if promises:
            apart_s = PRUDENCE * outlook.wait_s(ask.account, ask.all_s)
            due_s = max(due_s, promises[-1].due_s + apart_s)
        if len(promises) < self.most_promised:
            promises.append(_Promise(due_s, ask))
        return due_s - now_s


def _taken(ask: Ask, expected: Expected, outlook: Outlook, late_s: float = 0.0) -> Verdict:
    """Nothing is learnt from a wait at a pace that was not seen yet."""
    learns = outlook.seen or expected.seconds <= expected.took_s
    return Verdict(True, ask.account.slo, expected.done_s, late_s, expected=expected if learns else None)


def _forget(promises: deque[_Promise], now_s: float, most: int) -> None:
    """So many at most that were due long ago."""
    for _ in range(most):
        if not promises or promises[0].due_s + PATIENCE_S >= now_s:
            return
        promises.popleft()


def _slope(outlook: Outlook, account: Account, engine_s: float) -> tuple[float, float]:
    """The wait for so much work, and how much longer it is for each second more, at most: other tenants run out of
    work."""
    wait_s = outlook.wait_s(account, engine_s)
    return wait_s, (outlook.wait_s(account, engine_s + _STEP_S) - wait_s) / _STEP_S
