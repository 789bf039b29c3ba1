"""More work than the fleet can do: what is done in time, whether refusals are honest, and that nobody starves.

    python -m benchmarks.scheduling.overload [--loads 0.5 0.8 1 1.5 2 3] [--seconds 200] [--out FILE.json]

Simulated: the product's own core and door, modelled engines, virtual time. Clients ask one by one for programs that
should be done in 30 s. Who is told that it will be late comes back when it is told to, three times at most. Goodput is
what is done in time; beside it stands what becomes of it where everything is taken. Then a tenant with a quota, whose
clients come back after 429; and a batch beside more interactive work of the same tenant than one engine can do.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from benchmarks.scheduling.tenants import (
    ENGINES,
    Lengths,
    Service,
    as_written,
    batch,
    capacity_per_s,
    fleet,
    one_by_one,
)
from executor.commands import Command, FinishProgram
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.drivers.simulated import Arrival, Simulation
from executor.events import Event
from executor.policy.entrance import Ask, Entrance, OnLate
from executor.policy.fairness import Account, TenantShare
from executor.policy.urgency import AGEING_S
from executor.slo import SloClass
from planner.ir.ids import JobId

SLACK_S, MOST_RETURNS, QUOTA = 30.0, 3, 64
LEAST_KEPT, LEAST_HONEST = 0.9, 0.95


@dataclass(slots=True)
class Clients:
    """The door in front of a simulation, and the clients before it: a `Gate`, and a listener."""

    on_late: OnLate
    slack_s: float | None = SLACK_S
    entrance: Entrance = field(default_factory=Entrance)
    first_s: dict[JobId, float] = field(default_factory=dict)
    taken_s: dict[JobId, float] = field(default_factory=dict)
    ended_s: dict[JobId, float] = field(default_factory=dict)
    returns: dict[JobId, int] = field(default_factory=dict)
    refused: int = 0
    came_back: int = 0
    taken_back: int = 0

    def gate(self, arrival: Arrival, core: Scheduler) -> Arrival | None:
        cost, account = core.cost_of(arrival.plan.name), Account(arrival.tenant, arrival.slo)
        ask = Ask(account, cost.engine_s, cost.took_s, 1, self.slack_s, self.on_late, arrival.job)
        verdict = self.entrance.ask(ask, core.outlook, arrival.at)
        self.first_s.setdefault(arrival.job, arrival.at)
        self.came_back += arrival.job in self.returns
        if verdict.taken:
            self.taken_back += arrival.job in self.returns
            self.taken_s[arrival.job] = arrival.at
            if cost.ended:
                self.entrance.taken(arrival.job, verdict, arrival.at)
            due_s = None if self.slack_s is None else arrival.at + self.slack_s
            return replace(arrival, slo=verdict.slo, deadline_s=due_s)
        self.refused += 1
        self.returns[arrival.job] = self.returns.get(arrival.job, 0) + 1
        if verdict.retry_after_s is None or self.returns[arrival.job] > MOST_RETURNS:
            return None
        return replace(arrival, at=arrival.at + verdict.retry_after_s)

    def hear(self, event: Event, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, FinishProgram):
                self.ended_s[command.job] = event.at
                self.entrance.ended(command.job, event.at)

    def in_time(self, until_s: float) -> int:
        """Done while clients came, and not later than `SLACK_S` after they were taken."""
        ended = ((job, at) for job, at in self.ended_s.items() if at <= until_s)
        return sum(at - self.taken_s[job] <= SLACK_S for job, at in ended)

    def late(self) -> float:
        """The share of all that were taken."""
        return sum(at - self.taken_s[job] > SLACK_S for job, at in self.ended_s.items()) / len(self.ended_s)


@dataclass(frozen=True, slots=True)
class Load:
    """At `load` times what the fleet can do; goodput in programs a second. Of those that came back when they were told
    to, `honest` were taken; of those taken, `late` were."""

    load: float
    asked: int
    goodput: float
    without_door: float
    refused: int
    came_back: int
    honest: float
    late: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 1.0, 1.5, 2.0, 3.0])
    parser.add_argument("--seconds", type=float, default=200.0, help="of virtual time, in which clients come")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rate = capacity_per_s()
    print(f"simulated, virtual time; the fleet does {rate:.2f} programs a second")
    print(f"{'load':>6}{'asked':>8}{'goodput':>10}{'without door':>14}", end="")
    print(f"{'refused':>9}{'came back':>11}{'taken':>8}{'late':>7}")
    loads = []
    for load in asked.loads:
        loads.append(one := _at(load, rate, asked.seconds))
        figures = f"{one.goodput:10.2f}{one.without_door:14.2f}{one.refused:9,}{one.came_back:11,}{one.honest:8.1%}"
        figures += f"{one.late:7.1%}"
        print(f"{one.load:6.2f}{one.asked:8,}{figures}", flush=True)
    kept = loads[-1].goodput / max(one.goodput for one in loads)
    print(f"goodput at {loads[-1].load:g}x by its best: {kept:.2f} (goal >= {LEAST_KEPT})")
    quota = _quota(rate, asked.seconds)
    honest = quota.taken_back / max(1, quota.came_back)
    print(f"429: {quota.refused:,} refused, {quota.came_back:,} came back, {honest:.1%} taken", end=" ")
    print(f"(goal >= {LEAST_HONEST:.0%})")
    gap_s = _longest_gap(rate / ENGINES)
    bound_s = AGEING_S * SloClass.BATCH.rank + SLACK_S  # and until a place is free
    print(
        f"a batch beside more interactive work than can be done: {gap_s:.0f} s between its programs at worst", end=" "
    )
    print(f"(bound {bound_s:.0f})")
    if asked.out:
        found = {"loads": [asdict(one) for one in loads], "kept": kept, "quota_honest": honest, "gap_s": gap_s}
        asked.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    all_honest = honest >= LEAST_HONEST and all(one.honest >= LEAST_HONEST for one in loads)
    return 0 if kept >= LEAST_KEPT and all_honest and gap_s <= bound_s else 1


def _at(load: float, rate: float, seconds: float) -> Load:
    count = round(load * rate * seconds)
    door, none = (_serve(list(one_by_one("ann", load * rate, count, 3)), Clients(late)) for late in _BOTH)
    honest = door.taken_back / door.came_back if door.came_back else 1.0
    goodputs = door.in_time(seconds) / seconds, none.in_time(seconds) / seconds
    return Load(load, count, *goodputs, door.refused, door.came_back, honest, door.late())


_BOTH = OnLate.REJECT, OnLate.ACCEPT


def _quota(rate: float, seconds: float) -> Clients:
    """Twice what the fleet does, of a tenant that may have so many programs queued."""
    limits = Limits(tenants={"ann": TenantShare(queued=QUOTA)})
    arrivals = list(one_by_one("ann", 2 * rate, round(2 * rate * seconds), seed=4))
    return _serve(arrivals, Clients(OnLate.ACCEPT, slack_s=None), limits)


def _serve(arrivals: Sequence[Arrival], clients: Clients, limits: Limits | None = None) -> Clients:
    simulation = Simulation(fleet(), Lengths({}), limits, as_written, listener=clients.hear, gate=clients.gate)
    asyncio.run(simulation.run(arrivals))
    return clients


def _longest_gap(rate: float, seconds: float = 3 * AGEING_S) -> float:
    """Between programs of the batch that begin, while more of them wait."""
    arrivals = list(one_by_one("asked", 1.5 * rate, round(1.5 * rate * seconds), 5, SloClass.INTERACTIVE))
    batched = replace(batch("batch", "ann", 200), slo=SloClass.BATCH, at=30.0)
    service = Service(fleet(1), {batched.job: "batch", **{one.job: "asked" for one in arrivals}})
    of_one = [replace(one, tenant="ann") for one in arrivals]
    limits = Limits(active_programs=32)
    simulation = Simulation(fleet(1), Lengths({}), limits, as_written, listener=service)
    asyncio.run(simulation.run([*of_one, batched]))
    began_s = [batched.at, *(at for at in service.began_s["batch"] if at <= seconds)]
    return max(later - before for before, later in pairwise([*began_s, max(seconds, began_s[-1])]))


if __name__ == "__main__":
    raise SystemExit(main())
