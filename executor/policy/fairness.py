"""Whose turn it is: tenants share the engines' time by their weights, whatever each of them asks for.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) in seconds of engines' time: each tenant has a virtual
time that grows by what it is given over its weight, and the least goes first. Who comes back after a pause goes on from
where the others are: time that was not used is not saved up. A tenant's turn lasts until it is a quantum ahead, so that
calls with one prompt prefix stay together (as the deficits of arXiv 2501.14312 do).
"""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from executor.slo import SloClass

#: How far a tenant may get ahead in one turn, in seconds of each engine's time for a weight of one.
QUANTUM_S = 1.0
#: How far with its interactive calls: somebody waits for each of them.
LEAD_S = 5.0
#: How far a tenant that always has something in engines, and asks for less than its share, may fall behind others: so
#: much it may have at once when it asks for more.
CREDIT_S = 15.0
#: Of more tenants than this, some are forgotten: those that are no further than the queues, then the half that had
#: least. Whoever is unknown begins where the last of these was, so that to be forgotten gains nobody anything.
MOST_KEPT = 4096


@dataclass(frozen=True, slots=True)
class TenantShare:
    """What a tenant may have: engines' time by `weight` while others want it too, and at most so many programs
    `running` and `queued` at once."""

    weight: float = 1.0
    running: int | None = None
    queued: int | None = None

    def __post_init__(self) -> None:
        assert self.weight > 0, "a tenant without weight would never be served"


class Account(NamedTuple):
    """Whose work it is, and of which class. A tenant's background work is on an account of its own: it takes what
    others leave, and costs the tenant nothing of its share."""

    tenant: str
    slo: SloClass


_ROUNDING_S = 1e-6

_Key = tuple[str, bool]
_Queue = tuple[str, bool]


@dataclass(slots=True)
class FairShares:
    """The virtual times of tenants. `order` says who goes first of those that wait. What they are given is charged by a
    guess when it begins, and settled when it ends.

    While two tenants wait, what they were given over their weights grows apart by no more than a quantum, or the lead
    where interactive work is concerned, and what one call of each takes.
    """

    shares: Mapping[str, TenantShare] = field(default_factory=dict)
    others: TenantShare = TenantShare()
    quantum_s: float = QUANTUM_S
    lead_s: float = LEAD_S
    credit_s: float = CREDIT_S
    most_kept: int = MOST_KEPT
    _turn: dict[_Queue, str] = field(default_factory=dict)
    _virtual_s: dict[_Key, float] = field(default_factory=dict)  # with guesses; those not settled yet are open
    _open_s: dict[_Key, float] = field(default_factory=dict)
    _level_s: dict[_Queue, float] = field(default_factory=dict)  # where who comes begins
    _forgotten_s: dict[bool, float] = field(default_factory=dict)  # nobody that was forgotten had more

    def share(self, tenant: str) -> TenantShare:
        return self.shares.get(tenant, self.others)

    def equals(self, waiting: Collection[Account], queue: str = "") -> list[Account]:
        """Those of which any may be next: no quantum ahead of who has had the least, or no lead where interactive."""
        self._keep_few()
        front = [account for account in waiting if account.slo is not SloClass.BACKGROUND]
        return self._split(front or list(waiting), (queue, not front))[0]

    def order(self, waiting: Collection[Account], queue: str = "") -> list[list[Account]]:
        """Groups of accounts, the first to be served first: whose turn it is, those that are no quantum behind it, then
        the others one by one; all background work after all other.

        `waiting` has every account that waits in the queue: one for all models that any engine serves both of. It is
        asked also where there is but one, so that who comes later begins where that one is.
        """
        self._keep_few()
        if len(waiting) <= 1:  # as nearly always: it is asked at every event
            return [[self._alone(one, queue)] for one in waiting]
        front = [account for account in waiting if account.slo is not SloClass.BACKGROUND]
        rest = [account for account in waiting if account.slo is SloClass.BACKGROUND]
        return [*self._by_turn(front, (queue, False)), *self._by_turn(rest, (queue, True))]

    def one_by_one(self, guesses_s: Mapping[Account, Iterable[float]]) -> Iterator[Account]:
        """Whose pieces of work would go, one after the other, were each charged its guess as it goes: always of the
        account that has had the least. Nothing is charged; `order` was asked about these accounts just before."""
        left = {account: iter(guesses) for account, guesses in guesses_s.items()}
        ahead = [(self.had_s(account), account) for account in left]
        heapq.heapify(ahead)
        while ahead:
            had_s, account = ahead[0]
            guess_s = next(left[account], None)
            if guess_s is None:
                heapq.heappop(ahead)
                continue
            heapq.heapreplace(ahead, (had_s + guess_s / self.share(account.tenant).weight, account))
            yield account

    def had_s(self, account: Account) -> float:
        """What the account was given over its weight, with guesses: its virtual time."""
        return self._known_s(_key(account))

    @property
    def known(self) -> int:
        """How many accounts are told apart."""
        return len(self._virtual_s)

    def charge(self, account: Account, guess_s: float) -> None:
        """The tenant is given about so many seconds of an engine's time."""
        key, weight = _key(account), self.share(account.tenant).weight
        self._virtual_s[key] = self._known_s(key) + guess_s / weight
        self._open_s[key] = self._open_s.get(key, 0.0) + guess_s / weight

    def settle(self, account: Account, guess_s: float, took_s: float) -> None:
        """What was charged by a guess is over."""
        key, weight = _key(account), self.share(account.tenant).weight
        self._virtual_s[key] = self._known_s(key) + (took_s - guess_s) / weight
        open_s = self._open_s.get(key, 0.0) - guess_s / weight
        self._open_s[key] = open_s if open_s > _ROUNDING_S else 0.0

    def _alone(self, account: Account, queue: str) -> Account:
        """Who waits alone has the turn, and who comes later begins where it is."""
        own = queue, _key(account)[1]
        self._catch_up([account], own)
        self._turn[own] = account.tenant
        return account

    def _by_turn(self, waiting: list[Account], queue: _Queue) -> list[list[Account]]:
        if not waiting:
            return []
        equals, later = self._split(waiting, queue)
        turn = self._whose_turn(equals, queue)
        first = [account for account in equals if account.tenant == turn]
        others = [account for account in equals if account.tenant != turn]
        return [first, *([others] if others else []), *([one] for one in later)]

    def _split(self, waiting: list[Account], queue: _Queue) -> tuple[list[Account], list[Account]]:
        """Equals, and those that are ahead of them: the least first."""
        self._catch_up(waiting, queue)
        if len({account.tenant for account in waiting}) == 1:
            return waiting, []
        least_s = min(self._virtual_s[_key(account)] for account in waiting)
        ahead_s = {account: self._virtual_s[_key(account)] - least_s for account in waiting}
        equals = [account for account in waiting if ahead_s[account] <= self._allowed_s(account)]
        later = sorted((one for one in waiting if one not in equals), key=lambda one: (ahead_s[one], one))
        return equals, later

    def _whose_turn(self, equals: list[Account], queue: _Queue) -> str:
        """It goes on while nobody else has more urgent work; then it is who has had the least's."""
        rank = min(account.slo.rank for account in equals)
        urgent = [account for account in equals if account.slo.rank == rank]
        if self._turn.get(queue) not in [account.tenant for account in urgent]:
            self._turn[queue] = min(urgent, key=lambda account: (self._virtual_s[_key(account)], account)).tenant
        return self._turn[queue]

    def _catch_up(self, waiting: list[Account], queue: _Queue) -> None:
        """Who has nothing in engines goes on from where the others are. Only what is settled counts in this: what
        guesses are too high by is nobody's."""
        keys, level_s = [_key(account) for account in waiting], self._level_s.get(queue, 0.0)
        settled_s = {key: self._known_s(key, level_s) - self._open_s.get(key, 0.0) for key in keys}
        most_s = max(settled_s.values())
        for key in keys:
            open_s = self._open_s.get(key, 0.0)
            settled_s[key] = max(settled_s[key], most_s - self.credit_s if open_s else level_s)
            self._virtual_s[key] = settled_s[key] + open_s
        self._level_s[queue] = max(level_s, min(settled_s.values()) - self.quantum_s)

    def _keep_few(self) -> None:
        """Before it is asked, not while: of those that wait each is known then, front and background."""
        if len(self._virtual_s) > self.most_kept:
            self._forget()

    def _forget(self) -> None:
        """To be where the queues are says no more than to be new; of the others, those that had least are forgotten.
        Those with calls in engines stay known, however many they are."""
        self._open_s = {key: open_s for key, open_s in self._open_s.items() if open_s}
        for rest in (False, True):
            self._drop_up_to(min((at_s for (_, of), at_s in self._level_s.items() if of is rest), default=0.0), rest)
        for rest in (False, True) if len(self._virtual_s) > self.most_kept else ():
            idle_s = sorted(at_s for key, at_s in self._virtual_s.items() if key[1] is rest and key not in self._open_s)
            if idle_s:
                last_s = idle_s[(len(idle_s) - 1) // 2]
                self._drop_up_to(last_s, rest)
                self._forgotten_s[rest] = max(self._forgotten_s.get(rest, 0.0), last_s)

    def _drop_up_to(self, last_s: float, rest: bool) -> None:
        kept = (
            key for key, at_s in self._virtual_s.items() if at_s > last_s or key[1] is not rest or key in self._open_s
        )
        self._virtual_s = {key: self._virtual_s[key] for key in kept}

    def _known_s(self, key: _Key, level_s: float = 0.0) -> float:
        """Whoever is unknown may have been forgotten."""
        virtual_s = self._virtual_s.get(key)
        return max(level_s, self._forgotten_s.get(key[1], 0.0)) if virtual_s is None else virtual_s

    def _allowed_s(self, account: Account) -> float:
        return self.lead_s if account.slo is SloClass.INTERACTIVE else self.quantum_s


def fair_shares(shares: Mapping[str, TenantShare], others: TenantShare, engines: int) -> FairShares:
    """For a fleet of so many engines."""
    several = max(1, engines)
    return FairShares(shares, others, QUANTUM_S * several, LEAD_S * several, CREDIT_S * several)


def _key(account: Account) -> _Key:
    return account.tenant, account.slo is SloClass.BACKGROUND
