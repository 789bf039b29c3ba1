"""A good schedule of a placement problem, and how good it is."""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.placement.bound import Bound, lower_bound
from planner.placement.dispatch import dispatched
from planner.placement.phases import phases_of
from planner.placement.problem import Problem
from planner.placement.replay import Shop
from planner.placement.schedule import Schedule
from planner.placement.search import Budget, Countdown, improved
from planner.placement.start import agenda_of, by_critical_path

_MANY = 60  # operators: beyond, there is always something to do, and phases would take longer than they gain
_SPARES = (2, 4, 6)
_GOOD = 1.0005  # of the bound: nothing better is looked for


@dataclass(frozen=True, slots=True)
class Solved:
    schedule: Schedule
    bound_s: float

    @property
    def gap(self) -> float:
        return self.schedule.makespan_s / self.bound_s - 1 if self.bound_s else 0.0


def solved(problem: Problem, budget: Budget, seed: int = 0) -> Solved:
    """The best schedule found within `budget`: list scheduling, what follows from phases, and local search from there.

    One list schedule and the bound are always made, however small the budget.
    """
    countdown, shop = budget.begun(), Shop(problem)
    bound = lower_bound(problem)
    best = min(_starts(shop, bound, countdown), key=lambda schedule: schedule.makespan_s)
    return Solved(improved(shop, best, countdown, seed, _GOOD * bound.seconds), bound.seconds)


def _starts(shop: Shop, bound: Bound, countdown: Countdown) -> Iterator[Schedule]:
    yield shop.replay(by_critical_path(shop.problem))
    if len(shop.problem.operators) > _MANY:
        return
    for spare in _SPARES:
        if countdown.spent():
            return
        phases = phases_of(shop.problem, bound.seconds, spare)
        yield shop.replay(dispatched(shop, agenda_of(shop, phases)))
