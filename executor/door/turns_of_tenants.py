"""Whose calls go first at the door: tenants share the engines' time by their weights (`executor.policy.fairness`)."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from executor.door.limits import DoorLimits
from executor.door.line import DoorCall
from executor.policy.fairness import Account, fair_shares
from executor.slo import SloClass

#: How far a tenant may get ahead in one turn, in seconds of each engine's time. Jobs keep rows with one prefix together
#: by longer turns; here what is alike is of one program, and somebody may wait for every call.
TURN_S = 0.05


class TurnsOfTenants:
    """For a fleet of so many engines. A call is charged by what is predicted of it when it is sent, and by its tokens
    when it is answered; where no answer comes, what was predicted stands."""

    def __init__(self, limits: DoorLimits, engines: int) -> None:
        self._shares = fair_shares(limits.tenants, limits.any_tenant, engines)
        self._shares.quantum_s = TURN_S * max(1, engines)

    def order(self, waiting: Collection[str]) -> list[list[str]]:
        """Groups of the tenants that wait, in the line or for room, the first to be served first. Ask it also where
        there is but one."""
        groups = self._shares.order([_account(tenant) for tenant in waiting])
        return [[account.tenant for account in group] for group in groups]

    def one_by_one(self, loads_s: Mapping[str, Iterable[float]]) -> Iterator[str]:
        """Whose programs enter one after the other, where the first calls of each tenant's take so long: several may
        have room at once. `order` was asked about the tenants just before."""
        accounts = {_account(tenant): loads for tenant, loads in loads_s.items()}
        return (account.tenant for account in self._shares.one_by_one(accounts))

    def sent(self, call: DoorCall) -> None:
        self._shares.charge(_account(call.tenant), call.load_s)

    def answered(self, call: DoorCall, took_s: float) -> None:
        """Before the call leaves its engine."""
        self._shares.settle(_account(call.tenant), call.load_s, took_s)

    def unanswered(self, call: DoorCall) -> None:
        self._shares.settle(_account(call.tenant), call.load_s, call.load_s)


def _account(tenant: str) -> Account:
    """Nothing at the door says how urgent a call is."""
    return Account(tenant, SloClass.STANDARD)
