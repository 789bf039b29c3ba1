"""What others do, on the same problem and the same evaluator: each rule as strong as it can be without changing it.

They are what we are compared with, and where our own search begins (`planner.placement.solve`). All but the published
epoch rule run in the problem's own fine micro-batches, never wait at barriers, and take the best order that their
placement allows.
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


def min_switch(problem: Problem, seed: int) -> list[int]:
    """One that has the model, the least busy of them; else an empty one; else the next in turn."""
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
    return chosen


def round_robin(problem: Problem, seed: int) -> list[int]:
    """The next in turn of those that can run it."""
    return [of_operator[o % len(of_operator)] for o, of_operator in enumerate(_able(problem))]


def at_random(problem: Problem, seed: int) -> list[int]:
    """Any that can run it."""
    random = np.random.default_rng(seed)
    return [of_operator[int(random.integers(len(of_operator)))] for of_operator in _able(problem)]


#: Rules that choose one engine for each operator, by the name under which they are told.
PINNING: Mapping[str, Callable[[Problem, int], list[int]]] = {
    "min-switch": min_switch,
    "round robin": round_robin,
    "random": at_random,
}


def pinned(shop: Shop, chosen: Sequence[int]) -> Schedule:
    """Each operator on its engine: the best of operator by operator, row by row, and whatever is ready."""
    operators, batches = range(len(chosen)), range(shop.problem.batches)
    by_operator: list[Piece] = [(o, batch, chosen[o]) for o in operators for batch in batches]
    by_row: list[Piece] = [(o, batch, chosen[o]) for batch in batches for o in operators]
    engines = [[chosen[o]] * len(batches) for o in operators]
    ready = dispatched(shop, Agenda(engines, [[float(o)] * len(batches) for o in operators]))
    return min((shop.replay(order) for order in (by_operator, by_row, ready)), key=lambda found: found.makespan_s)


def pinned_least_s(shop: Shop, chosen: Sequence[int]) -> float:
    """What no order of these can go below: the work of the busiest engine."""
    busy_s = [0.0] * len(shop.problem.engines)
    for o, g in enumerate(chosen):
        busy_s[g] += shop.problem.operators[o].work_s[g]
    return max(busy_s)


def _by(rule: Callable[[Problem, int], list[int]]) -> Baseline:
    return lambda problem, seed: pinned(Shop(problem), rule(problem, seed))


#: By the name under which they are told.
BASELINES: Mapping[str, Baseline] = {
    "operator-wise": operator_wise,
    "query-wise": query_wise,
    "critical path": critical_path,
    **{name: _by(rule) for name, rule in PINNING.items()},
    "epochs, m=2": epoch_rule,
    "epochs, fine": fine_epoch_rule,
}


def _able(problem: Problem) -> list[list[int]]:
    engines = range(len(problem.engines))
    return [[g for g in engines if problem.can_run(o, g)] for o in range(len(problem.operators))]
