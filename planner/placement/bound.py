"""What no schedule can go below: a linear program whose answer is checked without trusting its solver.

Let `x[o, k]` be the share of operator `o` that runs on engines of kind `k`, and `y[m, k]` how many of them load model
`m`. Any schedule gives such figures, and for it holds, with `T` its makespan and `n_k` engines of a kind:

- all shares of an operator sum to 1, and an engine that runs a share of `o` has loaded its model: `x[o, k] <= y[m, k]`;
- an engine's work and loads fit into `T`, less what must follow the last of them;
- a micro-batch of `o` cannot start before its ancestors can have run (`heads`), nor end later than its descendants
  leave time for (`tails`). So, for each pair of a head `h` and a tail `q`, the work of all operators with at least
  that head and tail fits into `T - h - q` on each engine that has any.

Engines of one kind are added up: averaging a schedule over their permutations changes none of this. The least `T` is
therefore a bound for row-wise pipelining, fractional shares, any order, and any switching.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from planner.placement.linear import LinearProgram
from planner.placement.problem import Problem

_MOST_WINDOWS = 12  # heads, and tails, that are looked at: their pairs make the rows
_FEW_WINDOWS = 4  # where there are
_MANY = 60  # operators
_SAFE = 1 - 1e-9  # for sums of floats


@dataclass(frozen=True, slots=True)
class Bound:
    """`seconds` no schedule can go below; with `shares[o][k]` of operators on the kinds of `Problem.kinds`."""

    seconds: float
    shares: tuple[tuple[float, ...], ...]


def lower_bound(problem: Problem) -> Bound:
    """The bound, and fractional shares that would reach it if nothing but work had to fit."""
    return _Program(problem).solve()


def critical_path_s(problem: Problem) -> float:
    """The longest chain of one micro-batch, each piece on its quickest engine, its model loaded while it waits."""
    starts, ends = heads(problem), tails(problem)
    paths = (
        min(
            _earliest(problem, starts, o, g) + _piece(problem, o, g) + ends[o][g]
            for g in range(len(problem.engines))
            if problem.can_run(o, g)
        )
        for o in range(len(problem.operators))
    )
    return max(paths, default=0.0) * _SAFE


def heads(problem: Problem) -> list[float]:
    """The earliest that any micro-batch of each operator can find its parents ended."""
    starts: list[float] = []
    for operator in problem.operators:
        starts.append(max((_ended(problem, starts, parent) for parent in operator.parents), default=0.0))
    return starts


def tails(problem: Problem) -> list[list[float]]:
    """What must at least follow when a micro-batch leaves an engine, by operator and engine."""
    children, engines = problem.children(), range(len(problem.engines))
    after = [0.0] * len(problem.operators)
    ends: list[list[float]] = [[] for _ in problem.operators]
    for o in reversed(range(len(problem.operators))):
        below = max((after[child] for child in children[o]), default=0.0)
        ends[o] = [problem.operators[o].lag_s[g] + below for g in engines]
        after[o] = min(_piece(problem, o, g) + ends[o][g] for g in engines if problem.can_run(o, g))
    return ends


def _ended(problem: Problem, starts: Sequence[float], o: int) -> float:
    operator = problem.operators[o]
    return min(
        _earliest(problem, starts, o, g) + _piece(problem, o, g) + operator.lag_s[g]
        for g in range(len(problem.engines))
        if problem.can_run(o, g)
    )


def _earliest(problem: Problem, starts: Sequence[float], o: int, g: int) -> float:
    model = problem.operators[o].model
    return max(starts[o], 0.0 if model is None else problem.first_load_s(model, g))


def _piece(problem: Problem, o: int, g: int) -> float:
    return problem.operators[o].work_s[g] / problem.batches


class _Program:
    def __init__(self, problem: Problem) -> None:
        self._problem, self._kinds = problem, problem.kinds()
        self._firsts = [kind[0] for kind in self._kinds]
        self._heads, self._tails = heads(problem), tails(problem)
        self._path_s = critical_path_s(problem)
        self._most_windows = _MOST_WINDOWS if len(problem.operators) <= _MANY else _FEW_WINDOWS
        self._lp = LinearProgram()
        self._x = {pair: self._lp.add_variable(most=1.0) for pair in self._pairs()}
        asked = dict.fromkeys((m, k) for o, k in self._x if (m := problem.operators[o].model) is not None)
        self._y = {(m, k): self._lp.add_variable(most=len(self._kinds[k])) for m, k in asked}
        self._t = self._lp.add_variable(cost=1.0, most=sum(map(self._longest, range(len(problem.operators)))))
        self._add_shares()
        for k in range(len(self._kinds)):
            self._add_capacities(k)

    def solve(self) -> Bound:
        solution = self._lp.solve()
        shares = [[0.0] * len(self._kinds) for _ in self._problem.operators]
        for (o, k), variable in self._x.items():
            shares[o][k] = float(solution.values[variable])
        certified = self._lp.certified(solution.prices) * _SAFE
        return Bound(max(self._path_s, certified), tuple(map(tuple, shares)))

    def _pairs(self) -> Iterator[tuple[int, int]]:
        for o, k in product(range(len(self._problem.operators)), range(len(self._kinds))):
            if self._problem.can_run(o, self._firsts[k]):
                yield o, k

    def _longest(self, o: int) -> float:
        """On the engine that takes longest: one operator after another so is a schedule, and ends the box of `T`."""
        model, problem = self._problem.operators[o].model, self._problem
        return max(
            problem.operators[o].work_s[g]
            + problem.operators[o].lag_s[g]
            + (0.0 if model is None else problem.engines[g].load_s[model])
            for g in self._firsts
            if problem.can_run(o, g)
        )

    def _add_shares(self) -> None:
        of_operator: list[dict[int, float]] = [{} for _ in self._problem.operators]
        for (o, k), x in self._x.items():
            of_operator[o][x] = 1.0
            model = self._problem.operators[o].model
            if model is not None:
                self._lp.add_row({self._y[model, k]: 1.0, x: -1.0}, 0.0)
        for row in of_operator:
            self._lp.add_row(row, 1.0, 1.0)

    def _add_capacities(self, k: int) -> None:
        """`n T - work - loads >= n (h + q)` for each pair of a head and a tail that some operators have.

        An engine without such work need not have such a window: no pair takes more than the makespan has at least.
        """
        of_kind = [(o, x) for (o, kind), x in self._x.items() if kind == k]
        if not of_kind:
            return
        g, n = self._firsts[k], len(self._kinds[k])
        starts = _spread({0.0} | {self._heads[o] for o, _ in of_kind}, self._most_windows)
        ends = _spread({self._tails[o][g] for o, _ in of_kind}, self._most_windows)
        known: set[tuple[bool, tuple[int, ...]]] = set()
        for h, q in product(reversed(starts), reversed(ends)):  # of equal sets, the first has the narrowest window
            inside = {o: x for o, x in of_kind if self._heads[o] >= h and self._tails[o][g] >= q}
            key = h == 0, tuple(inside)
            if inside and key not in known:
                known.add(key)
                self._lp.add_row(self._window(k, inside, h == 0) | {self._t: n}, n * min(h + q, self._path_s))

    def _window(self, k: int, inside: Mapping[int, int], loads: bool) -> dict[int, float]:
        row = {x: -self._problem.operators[o].work_s[self._firsts[k]] for o, x in inside.items()}
        if loads:
            self._charge_loads(row, k, inside)
        return row

    def _charge_loads(self, row: dict[int, float], k: int, inside: Mapping[int, int]) -> None:
        """A load precedes the work it is for. Where all work of the model is inside, `y` counts it; else a share."""
        outside = {self._problem.operators[o].model for o, kind in self._x if kind == k and o not in inside}
        one_of = {m: o for o in inside if (m := self._problem.operators[o].model) is not None}
        for model, o in one_of.items():
            variable = inside[o] if model in outside else self._y[model, k]
            row[variable] = row.get(variable, 0.0) - self._problem.first_load_s(model, self._firsts[k])


def _spread(found: set[float], most: int) -> list[float]:
    """All of them, or as many as are looked at, evenly chosen; the least is always among them."""
    ordered = sorted(found)
    if len(ordered) <= most:
        return ordered
    return [ordered[i * (len(ordered) - 1) // (most - 1)] for i in range(most)]
