"""The evaluator: from who runs what, in which order, to when.

Micro-batches are put behind one another in the order given, each at the end of its engine's line: it starts when its
engine is free and its parents have ended. An engine that lacks a model loads it as soon as it is free, also before the
work is ready; what it evicts is what it needs again last (Belady). So the same order always gives the same schedule,
and every schedule in which nothing could start earlier without a change of order is the outcome of some order.
"""

from collections.abc import Sequence
from itertools import starmap
from math import inf

from planner.placement.problem import Problem
from planner.placement.schedule import Load, Run, Schedule

#: An operator, one of its micro-batches, and the engine that runs it; `ANY` is whichever ends it first.
Piece = tuple[int, int, int]
ANY = -1


class Shop:
    """A problem made ready to be run many times."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.kinds = problem.kinds()
        self.kind_of = [0] * len(problem.engines)
        for k, kind in enumerate(self.kinds):
            for g in kind:
                self.kind_of[g] = k
        operators, batches = problem.operators, problem.batches
        self.model_of = [-1 if o.model is None else o.model for o in operators]
        self.piece_s = [[work / batches for work in o.work_s] for o in operators]
        self.lag_s = [o.lag_s for o in operators]
        self.parents = [tuple(dict.fromkeys(o.parents)) for o in operators]
        self.children = problem.children()
        self.able = [[g for g in range(len(problem.engines)) if problem.can_run(o, g)] for o in range(len(operators))]
        self.load_s = [engine.load_s for engine in problem.engines]
        self.weight = [model.weight_bytes for model in problem.models]
        self.room = [engine.room_bytes for engine in problem.engines]

    def replay(self, pieces: Sequence[Piece]) -> Schedule:
        """The schedule of all micro-batches in this order, in which parents come first."""
        found = self.replay_within(pieces, inf)
        assert found
        return found

    def replay_within(self, pieces: Sequence[Piece], most_s: float) -> Schedule | None:
        """The same, and nothing where its makespan exceeds `most_s`: which takes less time to say."""
        return _Replay(self, pieces).run(most_s)


class _Replay:
    def __init__(self, shop: Shop, pieces: Sequence[Piece]) -> None:
        engines = range(len(shop.problem.engines))
        self._shop, self._pieces = shop, pieces
        self._free = [0.0 for _ in engines]
        self._resident = [set(engine.resident) for engine in shop.problem.engines]
        self._ended = [[0.0] * shop.problem.batches for _ in shop.problem.operators]
        self._loads: list[Load] = []

    def run(self, most_s: float) -> Schedule | None:
        shop, ended, free, resident = self._shop, self._ended, self._free, self._resident
        parents, model_of, piece_s, lag_s = shop.parents, shop.model_of, shop.piece_s, shop.lag_s
        runs: list[tuple[int, int, int, float, float]] = []
        last = 0.0
        for position, (o, batch, engine) in enumerate(self._pieces):
            ready = 0.0
            for parent in parents[o]:
                ready = max(ready, ended[parent][batch])
            g = self._quickest(o, ready) if engine == ANY else engine
            model = model_of[o]
            if model >= 0 and model not in resident[g]:
                self._load(g, model, position)
            start = free[g] if free[g] > ready else ready
            free[g] = end = start + piece_s[o][g]
            ended[o][batch] = answered = end + lag_s[o][g]
            if answered > last:
                last = answered
                if last > most_s:
                    return None
            runs.append((o, batch, g, start, end))
        return Schedule(tuple(starmap(Run, runs)), tuple(self._loads), last)

    def _quickest(self, o: int, ready: float) -> int:
        """The engine on which the answers are there first; of equals, the one that is done with it first."""
        shop, free, resident, model = self._shop, self._free, self._resident, self._shop.model_of[o]
        piece_s, lag_s = shop.piece_s[o], shop.lag_s[o]
        best, least_s, least_end = -1, inf, inf
        for g in shop.able[o]:
            start = free[g] if model < 0 or model in resident[g] else free[g] + shop.load_s[g][model]
            end = (ready if ready > start else start) + piece_s[g]
            answered = end + lag_s[g]
            if answered < least_s or (answered == least_s and end < least_end):
                best, least_s, least_end = g, answered, end
        return best

    def _load(self, g: int, model: int, position: int) -> None:
        evicted = self._evicted(g, model, position)
        self._resident[g].difference_update(evicted)
        self._resident[g].add(model)
        start = self._free[g]
        self._free[g] = start + self._shop.load_s[g][model]
        self._loads.append(Load(g, model, start, self._free[g], evicted))

    def _evicted(self, g: int, model: int, position: int) -> tuple[int, ...]:
        shop, resident = self._shop, self._resident[g]
        room = shop.room[g] - shop.weight[model] - sum(shop.weight[m] for m in sorted(resident))
        if room >= 0:
            return ()
        gone: list[int] = []
        for m in sorted(resident, key=lambda m: (-self._next_use(g, m, position), m)):
            gone.append(m)
            room += shop.weight[m]
            if room >= 0:
                break
        return tuple(gone)

    def _next_use(self, g: int, model: int, position: int) -> int:
        """Where in the order the engine needs the model again; those that go to any engine may need it anywhere."""
        if len(self._resident[g]) == 1:
            return 0
        for later in range(position, len(self._pieces)):
            o, _, engine = self._pieces[later]
            if engine in (g, ANY) and self._shop.model_of[o] == model:
                return later
        return len(self._pieces)
