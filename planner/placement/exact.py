"""The best schedule of a small problem, by branch and bound over orders, engines and what is evicted.

Finish to start, like the evaluator (`planner.placement.replay`): pieces are put behind one another by start, and a
branch ends where what is there, the remaining work, or the longest remaining path cannot beat the best schedule known.
For small jobs, and for saying how good the search is: a dozen pieces are many.
"""

from collections.abc import Iterator
from itertools import combinations

from planner.placement.bound import tails
from planner.placement.problem import Problem
from planner.placement.replay import Shop
from planner.placement.schedule import Load, Run, Schedule

_TIE = 1e-9


def exact(problem: Problem, known: Schedule, most_nodes: int = 200_000) -> Schedule | None:
    """A schedule with the least makespan, `known` where nothing beats it; `None` where `most_nodes` do not suffice."""
    best, optimal = polished(problem, known, most_nodes)
    return best if optimal else None


def polished(problem: Problem, known: Schedule, most_nodes: int) -> tuple[Schedule, bool]:
    """The best of `known` and what `most_nodes` find; and whether nothing can beat it."""
    search = _Search(problem, known, most_nodes)
    search.branch(0.0)
    return search.best, search.nodes >= 0


class _Search:
    def __init__(self, problem: Problem, known: Schedule, most_nodes: int) -> None:
        self._problem, self._shop = problem, Shop(problem)
        self.best, self.nodes = known, most_nodes
        self._free = [0.0] * len(problem.engines)
        self._resident = [frozenset(engine.resident) for engine in problem.engines]
        self._ended: list[list[float | None]] = [[None] * problem.batches for _ in problem.operators]
        self._runs: list[Run] = []
        self._loads: list[Load] = []
        self._least_s = [min(self._shop.piece_s[o][g] for g in able) for o, able in enumerate(self._shop.able)]
        self._after = [min(row) for row in tails(problem)]
        self._left_s = sum(self._least_s) * problem.batches
        self._end_s = 0.0

    def branch(self, last_start: float) -> None:
        """Tries everything that may start at `last_start` or later, what can start earliest first."""
        self.nodes -= 1
        if self.nodes < 0:
            return
        if len(self._runs) == len(self._problem.operators) * self._problem.batches:
            if self._end_s < self.best.makespan_s - _TIE:
                self.best = Schedule(tuple(self._runs), tuple(self._loads), self._end_s)
            return
        if self._hopeless():
            return
        for start, o, batch, g, evicted in sorted(self._choices()):
            if start >= last_start - _TIE:
                self._try(start, o, batch, g, evicted)

    def _hopeless(self) -> bool:
        most = self.best.makespan_s - _TIE
        if self._end_s >= most or (sum(self._free) + self._left_s) / len(self._free) >= most:
            return True
        return any(
            ready + self._least_s[o] + self._after[o] >= most
            for o, row in enumerate(self._ended)
            for batch, ended in enumerate(row)
            if ended is None and (ready := self._ready(o, batch)) is not None
        )

    def _ready(self, o: int, batch: int) -> float | None:
        """When the parents have ended; `None` where one has not been put yet."""
        ready = 0.0
        for parent in self._shop.parents[o]:
            ended = self._ended[parent][batch]
            if ended is None:
                return None
            ready = max(ready, ended)
        return ready

    def _choices(self) -> Iterator[tuple[float, int, int, int, tuple[int, ...]]]:
        for batch in range(self._problem.batches):
            untouched = all(row[batch] is None for row in self._ended)
            for o in range(len(self._problem.operators)):
                ready = self._ready(o, batch) if self._ended[o][batch] is None else None
                if ready is None:
                    continue
                for g in self._shop.able[o]:
                    for evicted in self._evictions(g, self._shop.model_of[o]):
                        yield self._start(o, g, ready), o, batch, g, evicted
            if untouched:  # those behind it are like it
                return

    def _start(self, o: int, g: int, ready: float) -> float:
        return max(ready, self._free[g] + self._load_s(g, self._shop.model_of[o]))

    def _load_s(self, g: int, model: int) -> float:
        return 0.0 if model < 0 or model in self._resident[g] else self._shop.load_s[g][model]

    def _evictions(self, g: int, model: int) -> Iterator[tuple[int, ...]]:
        """Every smallest set of models whose room suffices."""
        resident = self._resident[g]
        if model < 0 or model in resident:
            yield ()
            return
        needed = self._shop.weight[model] + sum(self._shop.weight[m] for m in resident) - self._shop.room[g]
        enough: list[set[int]] = []
        for size in range(len(resident) + 1):
            for gone in combinations(sorted(resident), size):
                if sum(self._shop.weight[m] for m in gone) >= needed and not any(e <= set(gone) for e in enough):
                    enough.append(set(gone))
                    yield gone

    def _try(self, start: float, o: int, batch: int, g: int, evicted: tuple[int, ...]) -> None:
        before = self._free[g], self._resident[g], self._end_s, self._left_s, len(self._loads)
        model, load_s = self._shop.model_of[o], self._load_s(g, self._shop.model_of[o])
        if model >= 0 and model not in self._resident[g]:
            self._loads.append(Load(g, model, self._free[g], self._free[g] + load_s, evicted))
            self._resident[g] = self._resident[g] - set(evicted) | {model}
        end = self._free[g] = start + self._shop.piece_s[o][g]
        self._ended[o][batch] = ended = end + self._shop.lag_s[o][g]
        self._end_s, self._left_s = max(self._end_s, ended), self._left_s - self._least_s[o]
        self._runs.append(Run(o, batch, g, start, end))
        self.branch(start)
        self._runs.pop()
        self._ended[o][batch] = None
        self._free[g], self._resident[g], self._end_s, self._left_s, loads = before
        del self._loads[loads:]
