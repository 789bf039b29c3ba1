"""Which share of each operator runs on which kind of engine, and when: a linear program over phases of free length.

In each phase, engines work on what was ready when it began: the share of an operator that is done by the end of a phase
is at most what its parents had done by the end of the one before. Phases are as long as the program makes them: short
where the pipeline fills and drains, long between. That is a plan any fine enough micro-batches can follow, where the
program of `planner.placement.bound`, which knows no time, may give an engine work that comes too late for it. Loads and
lags are not in it; who follows it pays them.
"""

from dataclasses import dataclass

from planner.placement.linear import LinearProgram
from planner.placement.problem import Problem

_MOST = 18  # phases
_LATEST = 2  # phases that a lag may take
_INSTANT = 0.01  # an operator that takes less of the makespan needs no phase of its own


@dataclass(frozen=True, slots=True)
class Phases:
    """`lengths_s[p]` of each phase; `shares[o]` are `(phase, kind, share)` in order, with shares that sum to 1."""

    lengths_s: tuple[float, ...]
    shares: tuple[tuple[tuple[int, int, float], ...], ...]


def phases_of(problem: Problem, bound_s: float, spare: int) -> Phases:
    """The phases of least total length: as many as the longest chain has operators, and `spare` more.

    More of them pipeline more finely, and have engines change their model more often.
    """
    return _Program(problem, bound_s, spare).solve()


class _Program:
    def __init__(self, problem: Problem, bound_s: float, spare: int) -> None:
        self._problem, self._kinds = problem, problem.kinds()
        self._firsts = [kind[0] for kind in self._kinds]
        self._instant = [self._least_s(o) <= _INSTANT * bound_s for o in range(len(problem.operators))]
        self._phases = range(min(_MOST, self._depth() + spare))
        self._typical_s = max(bound_s, 1e-9) / len(self._phases)
        self._lp = LinearProgram()
        self._length = [self._lp.add_variable(cost=1.0) for _ in self._phases]
        self._x: dict[tuple[int, int, int], int] = {}
        self._done: dict[tuple[int, int], int] = {}
        self._add_operators()
        self._add_capacities()
        self._add_precedence()

    def solve(self) -> Phases:
        values = self._lp.solve().values
        shares: list[list[tuple[int, int, float]]] = [[] for _ in self._problem.operators]
        for (o, p, k), variable in self._x.items():
            if values[variable] > 1e-9:
                shares[o].append((p, k, float(values[variable])))
        lengths = tuple(float(values[variable]) for variable in self._length)
        return Phases(lengths, tuple(tuple(sorted(row)) for row in shares))

    def _least_s(self, o: int) -> float:
        """On all engines that can, together."""
        rate = sum(
            1 / work
            for g, work in enumerate(self._problem.operators[o].work_s)
            if self._problem.can_run(o, g) and work > 0
        )
        return 1 / rate if rate else 0.0

    def _depth(self) -> int:
        depth: list[int] = []
        for o, operator in enumerate(self._problem.operators):
            before = max((depth[parent] for parent in operator.parents), default=0)
            depth.append(before + (not self._instant[o]))
        return max(depth, default=1)

    def _add_operators(self) -> None:
        """`done[o, p]`: which share has ended by the end of phase `p`."""
        for o in range(len(self._problem.operators)):
            delays = self._delays(o)
            for p in self._phases:
                done = self._done[o, p] = self._lp.add_variable(least=1.0 if p == self._phases[-1] else 0.0, most=1.0)
                row = {done: -1.0} | ({self._done[o, p - 1]: 1.0} if p else {})
                for k, delay in delays.items():
                    if p >= delay:
                        x = self._x[o, p - delay, k] = self._lp.add_variable(most=1.0)
                        row[x] = 1.0
                self._lp.add_row(row, 0.0, 0.0)

    def _delays(self, o: int) -> dict[int, int]:
        """By how many phases its answers are later on each kind than on the kind with the least lag."""
        lags = {
            k: self._problem.operators[o].lag_s[g] for k, g in enumerate(self._firsts) if self._problem.can_run(o, g)
        }
        least = min(lags.values())
        return {k: min(_LATEST, int((lag - least) / self._typical_s + 0.5)) for k, lag in lags.items()}

    def _add_capacities(self) -> None:
        for p in self._phases:
            rows: list[dict[int, float]] = [{self._length[p]: float(len(kind))} for kind in self._kinds]
            for o, operator in enumerate(self._problem.operators):
                for k, g in enumerate(self._firsts):
                    if (o, p, k) in self._x:
                        rows[k][self._x[o, p, k]] = -operator.work_s[g]
            for row in rows:
                self._lp.add_row(row, 0.0)

    def _add_precedence(self) -> None:
        for o, operator in enumerate(self._problem.operators):
            for parent in dict.fromkeys(operator.parents):
                for p in self._phases:
                    before = p if self._instant[parent] else p - 1
                    done = {self._done[parent, before]: 1.0} if before >= 0 else {}
                    self._lp.add_row(done | {self._done[o, p]: -1.0}, 0.0)
