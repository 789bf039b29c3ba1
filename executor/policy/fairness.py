"""Whose turn it is: tenants share the engines' time by their weights, whatever each of them asks for.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) in seconds of engines' time: each tenant has a virtual
time that grows by what it is given over its weight, and the least goes first. Who comes back after a pause goes on from
where the others are: no more than a quantum of time that was not used is saved up. A tenant's turn lasts until it is a
quantum ahead, so that calls with one prompt prefix stay together (as the deficits of arXiv 2501.14312 do).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from executor.slo import SloClass

#: How far a tenant may get ahead in one turn, in seconds of each engine's time for a weight of one.
QUANTUM_S = 1.0
#: How far with its interactive calls: somebody waits for each of them.
LEAD_S = 5.0
#: More tenants than this are not told apart once they have no more than others.
_MOST_KEPT = 4096


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


_Key = tuple[str, bool]
_Queue = tuple[str, bool]


@dataclass(slots=True)
class FairShares:
    """The virtual times of tenants. `order` says who goes first of those that wait; `charge` what they were given.

    While two tenants wait, what they were given over their weights grows apart by no more than a quantum, or the lead
    where interactive work is concerned, and what one call of each takes.
    """

    shares: Mapping[str, TenantShare] = field(default_factory=dict)
    others: TenantShare = TenantShare()
    quantum_s: float = QUANTUM_S
    lead_s: float = LEAD_S
    _turn: dict[_Queue, str] = field(default_factory=dict)
    _virtual_s: dict[_Key, float] = field(default_factory=dict)
    _floor_s: dict[_Queue, float] = field(default_factory=dict)

    def share(self, tenant: str) -> TenantShare:
        return self.shares.get(tenant, self.others)

    def equals(self, waiting: Collection[Account], queue: str = "") -> list[Account]:
        """Those of which any may be next: no quantum ahead of who has had the least, or no lead where interactive."""
        front = [account for account in waiting if account.slo is not SloClass.BACKGROUND]
        return self._split(front or list(waiting), (queue, not front))[0]

    def order(self, waiting: Collection[Account], queue: str = "") -> list[list[Account]]:
        """Groups of accounts, the first to be served first: whose turn it is, those that are no quantum behind it, then
        the others one by one; all background work after all other.

        `waiting` has every account that waits in the queue: one for each model, since no engine serves both.
        """
        front = [account for account in waiting if account.slo is not SloClass.BACKGROUND]
        rest = [account for account in waiting if account.slo is SloClass.BACKGROUND]
        return [*self._by_turn(front, (queue, False)), *self._by_turn(rest, (queue, True))]

    def charge(self, account: Account, engine_s: float) -> None:
        """The tenant was given so many seconds of an engine's time; less than none where a guess was too high."""
        key = _key(account)
        self._virtual_s[key] = self._virtual_s.get(key, 0.0) + engine_s / self.share(account.tenant).weight

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
        """Who was away goes on from where those are that waited meanwhile; who is new begins there."""
        floor_s = self._floor_s.get(queue, 0.0)
        for account in waiting:
            key = _key(account)
            self._virtual_s[key] = max(self._virtual_s.get(key, floor_s), floor_s - self.quantum_s)
        self._floor_s[queue] = max(floor_s, min(self._virtual_s[_key(account)] for account in waiting))
        if len(self._virtual_s) > _MOST_KEPT:
            self._forget_those_behind()

    def _forget_those_behind(self) -> None:
        """To be where the queues are says no more than to be new."""
        least_s = min(self._floor_s.values())
        self._virtual_s = {key: at_s for key, at_s in self._virtual_s.items() if at_s > least_s}

    def _allowed_s(self, account: Account) -> float:
        return self.lead_s if account.slo is SloClass.INTERACTIVE else self.quantum_s


def fair_shares(shares: Mapping[str, TenantShare], others: TenantShare, engines: int) -> FairShares:
    """For a fleet of so many engines."""
    several = max(1, engines)
    return FairShares(shares, others, QUANTUM_S * several, LEAD_S * several)


def _key(account: Account) -> _Key:
    return account.tenant, account.slo is SloClass.BACKGROUND
