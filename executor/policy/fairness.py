"""Whose turn it is: tenants share the engines' time by their weights, whatever each of them asks for.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) in seconds of engines' time: each tenant has a virtual
time that grows by what it is given over its weight, and the least goes first. Who comes back after a pause goes on from
where the others are: no more than a quantum of time that was not used is saved up. Tenants no further apart than a
quantum are equals, so that calls with one prompt prefix stay together (deficit longest prefix match, arXiv 2501.14312).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from executor.slo import SloClass

#: Tenants that are no further apart, in seconds of engines' time for a weight of one, are equals.
QUANTUM_S = 2.0
#: So much further ahead a tenant's interactive calls are still among equals: somebody waits for each of them.
LEAD_S = 10.0
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
    _virtual_s: dict[_Key, float] = field(default_factory=dict)
    _floor_s: dict[tuple[str, bool], float] = field(default_factory=dict)

    def share(self, tenant: str) -> TenantShare:
        return self.shares.get(tenant, self.others)

    def order(self, waiting: Collection[Account], queue: str = "") -> list[list[Account]]:
        """Groups of equals, the first to be served first; all background work after all other.

        `waiting` has every account that waits in the queue: one for each model, since no engine serves both.
        """
        front = [account for account in waiting if account.slo is not SloClass.BACKGROUND]
        rest = [account for account in waiting if account.slo is SloClass.BACKGROUND]
        return [*self._by_turn(front, (queue, False)), *self._by_turn(rest, (queue, True))]

    def charge(self, account: Account, engine_s: float) -> None:
        """The tenant was given so many seconds of an engine's time; less than none where a guess was too high."""
        key = _key(account)
        self._virtual_s[key] = self._virtual_s.get(key, 0.0) + engine_s / self.share(account.tenant).weight

    def _by_turn(self, waiting: list[Account], queue: tuple[str, bool]) -> list[list[Account]]:
        if not waiting:
            return []
        self._catch_up(waiting, queue)
        if len({account.tenant for account in waiting}) == 1:
            return [waiting]
        least_s = min(self._virtual_s[_key(account)] for account in waiting)
        ahead_s = {account: self._virtual_s[_key(account)] - least_s for account in waiting}
        equals = [account for account in waiting if ahead_s[account] <= self._allowed_s(account)]
        later = sorted((one for one in waiting if one not in equals), key=lambda one: (ahead_s[one], one))
        return [equals, *([one] for one in later)]

    def _catch_up(self, waiting: list[Account], queue: tuple[str, bool]) -> None:
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


def _key(account: Account) -> _Key:
    return account.tenant, account.slo is SloClass.BACKGROUND
