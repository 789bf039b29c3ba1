"""Orders to begin a search with."""

from collections.abc import Sequence

from planner.placement.bound import tails
from planner.placement.dispatch import Agenda
from planner.placement.phases import Phases
from planner.placement.problem import Problem
from planner.placement.replay import ANY, Piece, Shop
from planner.placement.schedule import Schedule

_CLOSE = 1e-6


def by_critical_path(problem: Problem, row_wise: bool = False) -> list[Piece]:
    """List scheduling: the longest remaining path first, on whichever engine ends it first; or row by row."""
    rank = [min(row) for row in tails(problem)]
    operators = sorted(range(len(rank)), key=lambda o: (-rank[o], o))
    if row_wise:
        return [(o, batch, ANY) for batch in range(problem.batches) for o in operators]
    return [(o, batch, ANY) for o in operators for batch in range(problem.batches)]


def operator_by_operator(problem: Problem) -> list[Piece]:
    """All of an operator before the next: of those that may come, one that asks the same model as the last."""
    waits = [len(set(operator.parents)) for operator in problem.operators]
    children, model = problem.children(), None
    ready = [o for o, parents in enumerate(waits) if not parents]
    order: list[int] = []
    while ready:
        o = next((o for o in ready if problem.operators[o].model in (model, None)), ready[0])
        model = model if problem.operators[o].model is None else problem.operators[o].model
        order.append(o)
        ready.remove(o)
        for child in children[o]:
            waits[child] -= 1
            if not waits[child]:
                ready.append(child)
    return [(o, batch, ANY) for o in order for batch in range(problem.batches)]


def agenda_of(shop: Shop, phases: Phases) -> Agenda:
    """Whole micro-batches that follow the phases, on engines that keep their model as long as it has work."""
    return _Assignment(shop, phases).agenda()


def refined(shop: Shop, coarse: Schedule, batches: int) -> Agenda:
    """What a schedule in fewer micro-batches says of those that each of its own stands for."""
    fine, operators = shop.problem.batches, range(len(shop.problem.operators))
    engines, at_s = [[0] * fine for _ in operators], [[0.0] * fine for _ in operators]
    of_coarse = {(run.operator, run.batch): run for run in coarse.runs}
    for o in operators:
        for batch in range(fine):
            run = of_coarse[o, batch * batches // fine]
            engines[o][batch], at_s[o][batch] = run.engine, run.start_s
    return Agenda(engines, at_s)


class _Assignment:
    def __init__(self, shop: Shop, phases: Phases) -> None:
        problem = shop.problem
        self._shop, self._problem, self._phases = shop, problem, phases
        self._owed_s = [0.0] * len(shop.kinds)
        self._given_s = [0.0] * len(problem.engines)
        self._model = [engine.resident[-1] if engine.resident else -1 for engine in problem.engines]
        self._next = [0] * len(problem.operators)
        self._done = [0.0] * len(problem.operators)
        self._rank = [min(row) for row in tails(problem)]
        self._engine: list[list[int]] = [[] for _ in problem.operators]
        self._at_s: list[list[float]] = [[] for _ in problem.operators]

    def agenda(self) -> Agenda:
        start_s = 0.0
        for p, length_s in enumerate(self._phases.lengths_s):
            of_kinds: list[list[int]] = [[] for _ in self._shop.kinds]
            for o in range(len(self._problem.operators)):
                for k, count in self._counts(o, p).items():
                    of_kinds[k] += [o] * count
            for k, pieces in enumerate(of_kinds):
                self._give(k, pieces, start_s)
            start_s += length_s
        return Agenda(self._engine, self._at_s)

    def _counts(self, o: int, p: int) -> dict[int, int]:
        """How many micro-batches each kind takes in this phase; what rounding costs a kind, later ones make good."""
        shares = {k: share for phase, k, share in self._phases.shares[o] if phase == p}
        self._done[o] += sum(shares.values())
        total = min(self._problem.batches, int(self._done[o] * self._problem.batches + _CLOSE)) - self._next[o]
        if p == len(self._phases.lengths_s) - 1:
            total = self._problem.batches - self._next[o]
        self._next[o] += total
        return self._rounded(o, shares or self._any_kind(o), total)

    def _any_kind(self, o: int) -> dict[int, float]:
        return {self._shop.kind_of[self._shop.able[o][0]]: 1.0}

    def _rounded(self, o: int, shares: dict[int, float], total: int) -> dict[int, int]:
        piece_s = {k: self._shop.piece_s[o][self._shop.kinds[k][0]] for k in shares}
        whole = {k: total * share / sum(shares.values()) for k, share in shares.items()}
        for k in shares:
            self._owed_s[k] += whole[k] * piece_s[k]
        counts = dict.fromkeys(shares, 0)
        for _ in range(total):
            k = max(shares, key=lambda k: (self._owed_s[k] / (piece_s[k] or 1.0), -k))
            counts[k] += 1
            self._owed_s[k] -= piece_s[k]
        return counts

    def _give(self, k: int, pieces: Sequence[int], start_s: float) -> None:
        """Each engine of the kind its part: of the model it has, if there is any left, else of the one with most."""
        engines, by_model = self._shop.kinds[k], dict[int, list[int]]()
        for o in sorted(pieces, key=lambda o: (self._rank[o], -o)):  # taken from the end
            by_model.setdefault(self._shop.model_of[o], []).append(o)
        work_s = {m: sum(self._shop.piece_s[o][engines[0]] for o in of_model) for m, of_model in by_model.items()}
        while by_model:
            g = min(engines, key=lambda g: (self._given_s[g], self._model[g] not in by_model, g))
            model = self._model[g] if self._model[g] in by_model else max(by_model, key=lambda m: (work_s[m], -m))
            o = by_model[model].pop()
            work_s[model] -= self._shop.piece_s[o][g]
            if not by_model[model]:
                del by_model[model]
            self._put(o, g, model, start_s)

    def _put(self, o: int, g: int, model: int, start_s: float) -> None:
        self._given_s[g] += self._shop.piece_s[o][g]
        self._model[g] = model
        self._engine[o].append(g)
        self._at_s[o].append(start_s - 1e-6 * self._rank[o])
