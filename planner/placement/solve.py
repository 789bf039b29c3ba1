"""A good schedule of a placement problem, and how good it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from planner.placement.baselines import PINNING, pinned, pinned_least_s
from planner.placement.bound import Bound, critical_path_s, lower_bound
from planner.placement.dispatch import dispatched
from planner.placement.epochs import epoch_choices, epochs_agenda
from planner.placement.exact import polished
from planner.placement.phases import phases_of
from planner.placement.pinned import PinnedSearch
from planner.placement.problem import Problem
from planner.placement.replay import Shop
from planner.placement.schedule import Schedule
from planner.placement.search import Budget, Countdown, drained, improved
from planner.placement.start import agenda_of, by_critical_path, operator_by_operator, refined

_MANY = 60  # operators: beyond, there is always something to do, and phases would take longer than they gain
_SPARES = (2, 1, 4, 3, 6)  # which is best differs from job to job
_COARSE = (1, 4)  # micro-batches
_LAGS_RULE = 0.4  # when the longest path is that much of the bound
_COARSE_ROUNDS = 60
_PINNED_ROUNDS = (30, 120)
_FAR = 1.3  # who is that far from the best is not followed
_CHEAP_CHOICES = 20  # of operators for an epoch: the published rule takes some milliseconds
_EPOCH_CHOICES = 2_000  # with no more states than told next, less than a tenth of a second
_EPOCH_STATES = 1_000
_DRAINS = (0.9, 0.7, 0.35)  # of the makespan: from where on engines of a start are chosen anew
_KEPT = 0.2  # of the time is for local search
_SMALL = 16  # micro-batches in all: those are searched exhaustively as far as that does not take long
_SMALL_ROUNDS = 40
_SMALL_NODES = 1_500
_GOOD = 1.0005  # of the bound: nothing better is looked for


@dataclass(frozen=True, slots=True)
class Solved:
    schedule: Schedule
    bound_s: float

    @property
    def gap(self) -> float:
        return self.schedule.makespan_s / self.bound_s - 1 if self.bound_s else 0.0


def solved(problem: Problem, budget: Budget, seed: int = 0) -> Solved:
    """The best schedule found within `budget`: simple rules, what follows from phases, and local search from there.

    However small the budget, the bound is made, and for plans of ordinary size one schedule by phases; and no rule that
    places each call for itself or each operator on one engine (`planner.placement.baselines`) does better on `problem`.
    The rule of epochs is tried while there is time, where it does not take long.
    """
    countdown, shop = budget.begun(), Shop(problem)
    bound = lower_bound(problem)
    best = _best_start(shop, bound, countdown, seed)
    if len(problem.operators) * problem.batches <= _SMALL:
        best = improved(shop, best, Budget(rounds=_SMALL_ROUNDS).begun(), seed, _GOOD * bound.seconds)
        best, optimal = polished(problem, best, _SMALL_NODES)
        if optimal:
            return Solved(best, bound.seconds)
    return Solved(improved(shop, best, countdown, seed, _GOOD * bound.seconds), bound.seconds)


def _best_start(shop: Shop, bound: Bound, countdown: Countdown, seed: int) -> Schedule:
    few = len(shop.problem.operators) <= _MANY
    best = _best_of_rules(shop, seed)
    if few:
        best = drained(shop, best, _DRAINS, countdown.late)
        best = _by_phases(shop, bound, countdown, _SPARES[0], best)
    for start in _further(shop, bound, countdown, seed) if few else ():
        if countdown.spent() or countdown.late(_KEPT):
            return best
        best = start(best)
    return best


def _best_of_rules(shop: Shop, seed: int) -> Schedule:
    problem = shop.problem
    best = shop.replay(by_critical_path(problem))
    for order in (operator_by_operator(problem), by_critical_path(problem, row_wise=True)):
        best = shop.replay_within(order, best.makespan_s) or best
    for rule in PINNING.values():
        chosen = rule(problem, seed)
        if pinned_least_s(shop, chosen) < best.makespan_s:
            best = _better(best, pinned(shop, chosen))
    return best


#: From the best schedule so far to one that is as good or better.
_Start = Callable[[Schedule], Schedule]


def _further(shop: Shop, bound: Bound, countdown: Countdown, seed: int) -> Iterator[_Start]:
    """More starts, those first that are worth most: where lags rule, there is little to share out."""
    phases = [partial(_by_phases, shop, bound, countdown, spare) for spare in _SPARES[1:]]
    whole = [partial(_cheap_epochs, shop), partial(_whole, shop, countdown, seed)]
    if critical_path_s(shop.problem) < _LAGS_RULE * bound.seconds:
        yield from (*phases, *whole)
        return
    yield from whole
    for batches in dict.fromkeys(min(batches, shop.problem.batches) for batches in _COARSE):
        yield partial(_from_coarse, shop, batches, seed)
    yield from phases


def _cheap_epochs(shop: Shop, best: Schedule) -> Schedule:
    if not _whole_may_do(shop, best) or epoch_choices(shop.problem) > _CHEAP_CHOICES:
        return best
    return _better(best, shop.replay(dispatched(shop, epochs_agenda(shop.problem))))


def _whole(shop: Shop, countdown: Countdown, seed: int, best: Schedule) -> Schedule:
    """Operators that are not split: looked at for longer where they come near."""
    if not _whole_may_do(shop, best):
        return best
    search = PinnedSearch(shop.problem, seed)
    for rounds in _PINNED_ROUNDS:
        search.improve(rounds, countdown.late)
        found = shop.replay(dispatched(shop, search.agenda()))
        best = _better(best, found)
        if found.makespan_s > _FAR * best.makespan_s:
            return best
    if countdown.late() or not _CHEAP_CHOICES < epoch_choices(shop.problem) <= _EPOCH_CHOICES:
        return best
    return _better(best, shop.replay(dispatched(shop, epochs_agenda(shop.problem, _EPOCH_STATES))))


def _whole_may_do(shop: Shop, best: Schedule) -> bool:
    """Whether operators that are not split can end earlier than `best` at all."""
    operators = shop.problem.operators
    least_s = (min(operators[o].work_s[g] for g in able) for o, able in enumerate(shop.able))
    return max(least_s) < best.makespan_s


def _better(one: Schedule, other: Schedule) -> Schedule:
    return other if other.makespan_s < one.makespan_s else one


def _by_phases(shop: Shop, bound: Bound, countdown: Countdown, spare: int, best: Schedule) -> Schedule:
    agenda = agenda_of(shop, phases_of(shop.problem, bound.seconds, spare))
    return _better(best, drained(shop, shop.replay(dispatched(shop, agenda)), _DRAINS, countdown.late))


def _from_coarse(shop: Shop, batches: int, seed: int, best: Schedule) -> Schedule:
    """Few micro-batches are searched quickly; what is best for them is a start for many where lags rule."""
    coarse = Shop(replace(shop.problem, batches=batches))
    begin = coarse.replay(by_critical_path(coarse.problem))
    found = improved(coarse, begin, Budget(rounds=_COARSE_ROUNDS).begun(), seed)
    return _better(best, shop.replay(dispatched(shop, refined(shop, found, batches))))
