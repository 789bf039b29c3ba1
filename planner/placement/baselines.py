"""What others do, on the same problem and the same evaluator: each rule as strong as it can be without changing it.

All but the published epoch rule run in the problem's own fine micro-batches, never wait at barriers, and take the best
order that their placement allows.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from planner.placement.dispatch import Agenda, dispatched
from planner.placement.epochs import epoch_rule, fine_epoch_rule
from planner.placement.problem import Problem
from planner.placement.replay import Piece, Shop
from planner.placement.schedule import Schedule
from planner.placement.start import by_critical_path, operator_by_operator

Baseline = Callable[[Problem, int], Schedule]


def operator_wise(problem: Problem, seed: int) -> Schedule:
    """One operator after another on all engines; next comes, of those that may, one that asks the same model."""
    return Shop(problem).replay(operator_by_operator(problem))


def query_wise(problem: Problem, seed: int) -> Schedule:
    """Each row through all operators before the next, on whichever engine ends each call first."""
    return Shop(problem).replay(by_critical_path(problem, row_wise=True))


def critical_path(problem: Problem, seed: int) -> Schedule:
    """List scheduling alone: the longest remaining path first."""
    return Shop(problem).replay(by_critical_path(problem))


def min_switch(problem: Problem, seed: int) -> Schedule:
    """One engine for an operator: one that has the model, the least busy of them; else an empty one; else the next."""
    holds = [set(engine.resident) for engine in problem.engines]
    busy = [0.0] * len(problem.engines)
    turn, chosen = 0, list[int]()
    for o, operator in enumerate(problem.operators):
        able = [g for g in range(len(problem.engines)) if problem.can_run(o, g)]
        having = [g for g in able if operator.model in holds[g]]
        empty = [g for g in able if not holds[g]]
        if having:
            g = min(having, key=lambda g: (busy[g] + problem.operators[o].work_s[g], g))
        elif empty:
            g = min(empty, key=lambda g: (problem.operators[o].work_s[g], g))
        else:
            g, turn = able[turn % len(able)], turn + 1
        if operator.model is not None:
            holds[g] = {operator.model}
        busy[g] += operator.work_s[g]
        chosen.append(g)
    return _pinned(problem, chosen)


def round_robin(problem: Problem, seed: int) -> Schedule:
    """One engine for an operator: the next in turn of those that can run it."""
    able = _able(problem)
    return _pinned(problem, [of_operator[o % len(of_operator)] for o, of_operator in enumerate(able)])


def at_random(problem: Problem, seed: int) -> Schedule:
    """One engine for an operator: any that can run it."""
    random = np.random.default_rng(seed)
    return _pinned(problem, [of_operator[int(random.integers(len(of_operator)))] for of_operator in _able(problem)])


#: By the name under which they are told.
BASELINES: Mapping[str, Baseline] = {
    "operator-wise": operator_wise,
    "query-wise": query_wise,
    "critical path": critical_path,
    "min-switch": min_switch,
    "round robin": round_robin,
    "random": at_random,
    "epochs, m=2": epoch_rule,
    "epochs, fine": fine_epoch_rule,
}


def _able(problem: Problem) -> list[list[int]]:
    engines = range(len(problem.engines))
    return [[g for g in engines if problem.can_run(o, g)] for o in range(len(problem.operators))]


def _pinned(problem: Problem, chosen: Sequence[int]) -> Schedule:
    """The best of going operator by operator, row by row, and with whatever is ready."""
    shop = Shop(problem)
    operators, batches = range(len(problem.operators)), range(problem.batches)
    by_operator: list[Piece] = [(o, batch, chosen[o]) for o in operators for batch in batches]
    by_row: list[Piece] = [(o, batch, chosen[o]) for batch in batches for o in operators]
    engines = [[chosen[o]] * problem.batches for o in operators]
    ready = dispatched(shop, Agenda(engines, [[float(o)] * problem.batches for o in operators]))
    return min((shop.replay(order) for order in (by_operator, by_row, ready)), key=lambda found: found.makespan_s)
