"""A good schedule of a placement problem, and how good it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from planner.placement.bound import Bound, critical_path_s, lower_bound
from planner.placement.dispatch import dispatched
from planner.placement.phases import phases_of
from planner.placement.problem import Problem
from planner.placement.replay import Shop
from planner.placement.schedule import Schedule
from planner.placement.search import Budget, Countdown, improved
from planner.placement.start import agenda_of, by_critical_path, operator_by_operator, refined

_MANY = 60  # operators: beyond, there is always something to do, and phases would take longer than they gain
_SPARES = (2, 1, 4, 3, 6)  # which is best differs from job to job
_COARSE = (1, 4)  # micro-batches
_LAGS_RULE = 0.4  # when the longest path is that much of the bound
_COARSE_ROUNDS = 60
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

    The bound, one list schedule and, for plans of ordinary size, one by phases are made however small the budget.
    """
    countdown, shop = budget.begun(), Shop(problem)
    bound = lower_bound(problem)
    best = min(_starts(shop, bound, countdown, seed), key=lambda schedule: schedule.makespan_s)
    return Solved(improved(shop, best, countdown, seed, _GOOD * bound.seconds), bound.seconds)


def _starts(shop: Shop, bound: Bound, countdown: Countdown, seed: int) -> Iterator[Schedule]:
    problem = shop.problem
    few = len(problem.operators) <= _MANY
    if few:
        yield _by_phases(shop, bound, _SPARES[0])
    yield shop.replay(by_critical_path(problem))
    for start in _further(shop, bound, seed) if few else ():
        if countdown.spent():
            return
        yield start()
    if not countdown.spent():
        yield shop.replay(operator_by_operator(problem))


def _further(shop: Shop, bound: Bound, seed: int) -> Iterator[Callable[[], Schedule]]:
    """More starts, those first that are worth most: where lags rule, there is little to share out."""
    coarse = [partial(_from_coarse, shop, min(batches, shop.problem.batches), seed) for batches in _COARSE]
    phases = [partial(_by_phases, shop, bound, spare) for spare in _SPARES[1:]]
    lags_rule = critical_path_s(shop.problem) >= _LAGS_RULE * bound.seconds
    yield from (*coarse, *phases) if lags_rule else phases


def _by_phases(shop: Shop, bound: Bound, spare: int) -> Schedule:
    return shop.replay(dispatched(shop, agenda_of(shop, phases_of(shop.problem, bound.seconds, spare))))


def _from_coarse(shop: Shop, batches: int, seed: int) -> Schedule:
    """Few micro-batches are searched quickly; what is best for them is a start for many where lags rule."""
    coarse = Shop(replace(shop.problem, batches=batches))
    begin = coarse.replay(by_critical_path(coarse.problem))
    found = improved(coarse, begin, Budget(rounds=_COARSE_ROUNDS).begun(), seed)
    return shop.replay(dispatched(shop, refined(shop, found, batches)))
